package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// LedgerFile is the name of the ledger in the snapshot folder.
const LedgerFile = ".outstanding_transfers"

// A Ledger records, by the names of snapshots, what the destinations hold and what they still lack. Its file is the one of
// btrfs-backup 0.3.1, which can read what is written here:
//
//	{"20261121-044948": {"locks": ["/mnt/usb"], "parent_locks": ["ssh://nas/backup"]}}
//
// In locks stand the destinations that a transfer of the snapshot did not complete to, in parent_locks those that hold it too, and
// need it here as the parent of what comes: the newest one, and where backups build on each other by the calendar some others.
//
// A ledger may be shared by several series of snapshots, told apart by their prefix. Reading methods see, and changing
// methods change, only the entries of the names that belong to this one's series; Marshal writes all of them.
type Ledger struct {
	entries map[string]ledgerEntry
	ours    func(name string) bool
}

type ledgerEntry struct {
	Locks       []string `json:"locks,omitempty"`
	ParentLocks []string `json:"parent_locks,omitempty"`
}

// ParseLedger reads the content of a ledger file; no content is an empty ledger. The series is made of the names for which
// ours is true; nil: of all.
func ParseLedger(content []byte, ours func(name string) bool) (*Ledger, error) {
	if ours == nil {
		ours = func(string) bool { return true }
	}
	l := &Ledger{entries: make(map[string]ledgerEntry), ours: ours}
	if len(bytes.TrimSpace(content)) == 0 {
		return l, nil
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&l.entries); err != nil {
		return nil, fmt.Errorf("not a ledger: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || l.entries == nil {
		return nil, errors.New("not a ledger: not a single JSON object")
	}
	return l, nil
}

// Marshal gives the content for the ledger file.
func (l *Ledger) Marshal() []byte {
	content, err := json.MarshalIndent(l.entries, "", "    ")
	if err != nil {
		panic("internal error: strings that are no JSON: " + err.Error())
	}
	return append(content, '\n')
}

// A Hold says that a destination needs a snapshot.
type Hold struct {
	Destination string
	Outstanding bool // its transfer did not complete; otherwise the destination holds it, too
	Older       bool // and holds a newer one
}

func (h Hold) String() string {
	switch {
	case h.Outstanding:
		return "not yet at " + h.Destination
	case h.Older:
		return "a parent of what comes to " + h.Destination
	}
	return "newest common with " + h.Destination
}

// Holds gives the holds on a snapshot.
func (l *Ledger) Holds(name string) []Hold {
	var holds []Hold
	for _, d := range l.entries[name].ParentLocks {
		holds = append(holds, Hold{Destination: d, Older: l.hasNewer(d, name)})
	}
	for _, d := range l.entries[name].Locks {
		holds = append(holds, Hold{Destination: d, Outstanding: true})
	}
	return holds
}

// hasNewer tells that of the snapshots which a destination holds, too, another one has a later name.
func (l *Ledger) hasNewer(destination, than string) bool {
	for name, e := range l.entries {
		if l.ours(name) == l.ours(than) && name > than && slices.Contains(e.ParentLocks, destination) {
			return true
		}
	}
	return false
}

// Knows tells whether destination is on record as holding a backup.
func (l *Ledger) Knows(destination string) bool {
	for name, e := range l.entries {
		if l.ours(name) && slices.Contains(e.ParentLocks, destination) {
			return true
		}
	}
	return false
}

// IsCommon tells whether name is on record as a snapshot that destination holds too: the newest, or one that others are to build upon.
func (l *Ledger) IsCommon(destination, name string) bool {
	return slices.Contains(l.entries[name].ParentLocks, destination)
}

// Outstanding gives, in order, the destinations that transfers did not complete to.
func (l *Ledger) Outstanding() []string {
	var destinations []string
	for name, e := range l.entries {
		if l.ours(name) {
			destinations = append(destinations, e.Locks...)
		}
	}
	slices.Sort(destinations)
	return slices.Compact(destinations)
}

// Destinations gives, in order, all that are on record.
func (l *Ledger) Destinations() []string {
	var destinations []string
	for name, e := range l.entries {
		if l.ours(name) {
			destinations = slices.Concat(destinations, e.Locks, e.ParentLocks)
		}
	}
	slices.Sort(destinations)
	return slices.Compact(destinations)
}

// SetCommon records the snapshots that destination holds too and needs here: the newest, and what others are to build upon. Without any
// name it holds none.
func (l *Ledger) SetCommon(destination string, names ...string) {
	l.change(destination, names, func(e *ledgerEntry) *[]string { return &e.ParentLocks })
}

// SetOutstanding records that the transfer of name to destination is not complete; "" means that all are. Of several, the
// newest is recorded.
func (l *Ledger) SetOutstanding(destination, name string) {
	l.change(destination, []string{name}, func(e *ledgerEntry) *[]string { return &e.Locks })
}

// Forget removes every record of destination.
func (l *Ledger) Forget(destination string) {
	l.SetCommon(destination)
	l.SetOutstanding(destination, "")
}

// DropMissing removes the entries of snapshots that are gone.
func (l *Ledger) DropMissing(exists func(name string) bool) {
	maps.DeleteFunc(l.entries, func(name string, _ ledgerEntry) bool { return l.ours(name) && !exists(name) })
}

// change makes those of names the only entries of the series that have destination in one of their lists; "" is none.
func (l *Ledger) change(destination string, names []string, list func(*ledgerEntry) *[]string) {
	for _, name := range names {
		if _, ok := l.entries[name]; !ok && name != "" {
			l.entries[name] = ledgerEntry{}
		}
	}
	for n, e := range l.entries {
		if !l.ours(n) {
			continue
		}
		destinations := list(&e)
		has, is := slices.Contains(*destinations, destination), slices.Contains(names, n)
		switch {
		case is && !has:
			*destinations = append(slices.Clone(*destinations), destination)
		case !is && has:
			*destinations = slices.DeleteFunc(slices.Clone(*destinations), func(d string) bool { return d == destination })
		}
		l.entries[n] = e
		if len(e.Locks) == 0 && len(e.ParentLocks) == 0 {
			delete(l.entries, n)
		}
	}
}
