package tree

import "strings"

// An Origin tells of which directory a backup is.
type Origin struct {
	Source  string `json:"source,omitempty"`  // as its user knows it: the name of its machine, a colon and the path
	Machine string `json:"machine,omitempty"` // identifies the machine, whatever its name; "" if that is not known
}

// Same tells whether two origins are one directory. Where both machines are identified, their names do not matter; else the names
// must do.
func (o Origin) Same(other Origin) bool {
	if o.Machine == "" || other.Machine == "" {
		return o.Source == other.Source
	}
	return o.Machine == other.Machine && o.Path() == other.Path()
}

// Path is the part of Source behind the name of the machine.
func (o Origin) Path() string {
	_, path, _ := strings.Cut(o.Source, ":")
	return path
}
