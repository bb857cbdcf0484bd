package manual

// importStatus is common to the pages of import and its commands.
var importStatus = Section{Title: "EXIT STATUS", Items: [][2]string{
	{"0", "Every line was taken over, or is not needed."},
	{"1", "A file could not be read or written."},
	{"2", "The command line or the configuration is wrong, as it would be for the other program. Each complaint has its line."},
	{"3", "Some lines were not taken over."},
}}
