package offsite

import (
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Join tells the destinations of several sources in one store of each other. In a set, each manifest names the sources of all: a set
// is complete where each of these has a backup of one name, so nothing else marks it, and it is complete no more as soon as one goes.
func Join(members []*Destination, set bool) {
	for _, d := range members {
		d.joined, d.inSet = members, set
	}
}

// speaks tells that this one tells what is to be known of the store, for all of them.
func (d *Destination) speaks() bool { return len(d.joined) == 0 || d.joined[0] == d }

// members gives the names in the store of the sources of a set; none if there is no set.
func (d *Destination) members() (names []string, err error) {
	if !d.inSet {
		return nil, nil
	}
	for _, o := range d.joined {
		name, err := d.nameOf(o.from)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// checkApart refuses to mix the backups of two of the sources.
func (d *Destination) checkApart() error {
	for _, o := range d.joined {
		of := o.from.Origin()
		if o == d || of.Subvolume.IsZero() { // which is not open yet
			continue
		}
		switch name, err := d.nameOf(o.from); {
		case err != nil:
			return err
		case name == d.source:
			return hint.New(fmt.Errorf("%s and %s have one history there, since one was restored from backups of the other", d.from.Origin().Source, of.Source),
				"leave one of them out, or back it up to another store")
		}
	}
	return nil
}
