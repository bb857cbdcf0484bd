package chain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/progress"
)

// A Link is a stream, as it describes itself.
type Link struct {
	Name          string
	UUID          btrfs.UUID // by which copies of the snapshot are known
	TransID       uint64
	Parent        btrfs.UUID // none: it is complete by itself
	ParentTransID uint64
	Protocol      int

	input *Input
	index int // in that
}

// Full tells that the stream is complete by itself.
func (l Link) Full() bool { return l.Parent.IsZero() }

// snapshot is what the stream was made of.
func (l Link) snapshot() btrfs.Subvolume { return sent(l.Name, l.UUID, l.TransID) }

func sent(name string, uuid btrfs.UUID, transaction uint64) btrfs.Subvolume {
	return btrfs.Subvolume{Name: name, UUID: uuid, ReadOnly: true, CreatedIn: transaction, ChangedIn: transaction}
}

// time gives the date in the name.
func (l Link) time() time.Time {
	naming, _ := engine.NamingOf(l.Name)
	t, _ := naming.Time(l.Name)
	return t
}

// newest gives the link that is to be restored: the newest until a time, unless that is zero. Where names have no dates, transactions
// tell.
func newest(links []Link, until time.Time) (Link, error) {
	candidates := slices.DeleteFunc(slices.Clone(links), func(l Link) bool { return !until.IsZero() && l.time().After(until) })
	if len(candidates) == 0 {
		return Link{}, fmt.Errorf("none of the streams is of a snapshot as old as %s", until.Format(time.DateTime))
	}
	return slices.MaxFunc(candidates, func(a, b Link) int {
		return cmp.Or(a.time().Compare(b.time()), cmp.Compare(a.TransID, b.TransID))
	}), nil
}

// A MissingError tells that a stream is missing upon which another one is built.
type MissingError struct {
	Of     Link // the one that is built upon it
	UUID   btrfs.UUID
	Name   string // "" if it is not known
	Likely []string
}

func (e *MissingError) Error() string {
	what := "that of the snapshot " + e.UUID.String()
	if e.Name != "" {
		what = fmt.Sprintf("%s (%s)", progress.Name(e.Name), e.UUID)
	}
	return fmt.Sprintf("a stream is missing: %s is built upon %s", progress.Name(e.Of.Name), what)
}

// Hint gives the way forward.
func (e *MissingError) Hint() string {
	return "name it, too; among these it is not: " + strings.Join(e.Likely, ", ")
}

// order gives the streams that lead to one, the first one first. What there is already need not be among them.
func order(to Link, links []Link, there func(uuid btrfs.UUID, transaction uint64) bool) ([]Link, error) {
	way := order1(to, links, there, map[btrfs.UUID]bool{})
	if way == nil {
		return nil, missing(to, links, there)
	}
	return way, nil
}

// order1 gives the shortest way, or nil. seen are those that are on it already: streams can be made that build upon each other.
func order1(to Link, links []Link, there func(btrfs.UUID, uint64) bool, seen map[btrfs.UUID]bool) (way []Link) {
	if to.Full() || there(to.Parent, to.ParentTransID) {
		return []Link{to}
	}
	if seen[to.UUID] {
		return nil
	}
	seen[to.UUID] = true
	defer delete(seen, to.UUID)
	for _, l := range links {
		if l.UUID != to.Parent {
			continue
		}
		if before := order1(l, links, there, seen); before != nil && (way == nil || len(before)+1 < len(way)) {
			way = append(before, to)
		}
	}
	return way
}

// missing finds the end of the way.
func missing(to Link, links []Link, there func(btrfs.UUID, uint64) bool) error {
	e := &MissingError{Of: to, UUID: to.Parent}
	for range links {
		i := slices.IndexFunc(links, func(l Link) bool { return l.UUID == e.UUID })
		if i < 0 || links[i].Full() || there(links[i].Parent, links[i].ParentTransID) {
			break
		}
		e.Of, e.UUID = links[i], links[i].Parent
	}
	for _, l := range links {
		e.Likely = append(e.Likely, progress.Name(l.Name))
	}
	slices.Sort(e.Likely)
	return e
}

// check refuses names that no subvolume here may have.
func (l Link) check() error {
	if l.Name == "" || strings.HasPrefix(l.Name, ".") || strings.ContainsAny(l.Name, "/\x00") {
		return hint.New(fmt.Errorf("%s: the name of its snapshot is %s", l.input.title, progress.Name(l.Name)),
			"`btrfs receive` may take it, into a directory that holds nothing else")
	}
	return nil
}
