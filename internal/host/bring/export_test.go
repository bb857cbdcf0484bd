package bring

// SetSelf lets another file be this program, and gives the one before.
func SetSelf(path string) (before string) {
	before, self = self, path
	return before
}
