"""Components in processes of their own: what the run does here (`Remote…`), and what is done there (`Served…`)."""
