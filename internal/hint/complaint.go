package hint

import (
	"fmt"
	"strings"
)

// A Complaint is a reason why something cannot be done as it is wanted. It has a hint.
type Complaint struct {
	Setting string // its name, as an option or a key; "" for what is about a place
	Err     error
}

func (c Complaint) Error() string {
	if c.Setting == "" {
		return c.Err.Error()
	}
	return "--" + c.Setting + " " + c.Err.Error()
}

func (c Complaint) Unwrap() error { return c.Err }

// Complaints are all that is wrong with what is wanted.
type Complaints []Complaint

func (c Complaints) Error() string {
	texts := make([]string, len(c))
	for i, one := range c {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "\n")
}

// Err gives the complaints as an error, nil if there are none.
func (c Complaints) Err() error {
	if len(c) == 0 {
		return nil
	}
	return c
}

// Add complains of a setting, or with "" of a place, and tells the way forward.
func (c *Complaints) Add(setting, forward, format string, args ...any) {
	*c = append(*c, Complaint{setting, New(fmt.Errorf(format, args...), forward)})
}
