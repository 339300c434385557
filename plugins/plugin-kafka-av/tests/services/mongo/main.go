// A server of MongoDB's protocol that keeps its data in SQLite files: mongo ADDRESS DIRECTORY.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	f, err := ferretdb.New(&ferretdb.Config{Listener: ferretdb.ListenerConfig{TCP: os.Args[1]}, Handler: "sqlite", SQLiteURL: "file:" + os.Args[2] + "/"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(f.MongoDBURI())
	if err := f.Run(context.Background()); err != nil {
		os.Exit(1)
	}
}
