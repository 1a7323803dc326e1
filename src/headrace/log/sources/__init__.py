"""Where logs come from: one adapter a file, each turning one kind of raw data into a RawLog."""
