"""What a worker runs. A folder is a category, its ``__init__`` the contract, a file a step."""
