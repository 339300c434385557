"""The queues between lanes: edges, inboxes, the policies of full edges, and their files."""
