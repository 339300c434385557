"""The command `penstock demo`: an application that shows the core and four plugins at work on real video."""
