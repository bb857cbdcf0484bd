package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
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

// Snapshot is what the stream was made of.
func (l Link) Snapshot() btrfs.Subvolume { return sent(l.Name, l.UUID, l.TransID) }

// Base is what the stream is built upon; nil: nothing.
func (l Link) Base() *btrfs.Subvolume {
	if l.Full() {
		return nil
	}
	base := sent(l.Parent.String(), l.Parent, l.ParentTransID)
	return &base
}

// Title names the input that the stream is in.
func (l Link) Title() string { return l.input.title }

// AtLeast gives how many bytes the stream has at least, as far as that is known.
func (l Link) AtLeast() int64 {
	if l.index > 0 || l.input.bytes == nil {
		return 0
	}
	return l.input.bytes()
}

func sent(name string, uuid btrfs.UUID, transaction uint64) btrfs.Subvolume {
	return btrfs.Subvolume{Name: name, UUID: uuid, ReadOnly: true, CreatedIn: transaction, ChangedIn: transaction}
}

// Time gives the date in the name.
func (l Link) Time() time.Time {
	naming, _ := engine.NamingOf(l.Name)
	t, _ := naming.Time(l.Name)
	return t
}

// Heads gives the first stream of each input.
func Heads(ctx context.Context, inputs []*Input) (links []Link, err error) {
	var errs []error
	for _, in := range inputs {
		l, err := in.first(ctx)
		if err == nil {
			err = l.check()
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		links = append(links, l)
	}
	return links, errors.Join(errs...)
}

// There tells that a copy of what was sent is at the target.
type There func(sent btrfs.Subvolume) bool

// Plan gives the streams that lead to the newest snapshot until a time, unless that is zero: the first one first, and only those that the
// target needs. What has the wanted one needs no other; what there is can be built upon. Where one is missing, the inputs are searched for
// streams behind their first ones. The error is then a *MissingError.
func Plan(inputs []*Input, links []Link, until time.Time, has, there There) (way []Link, err error) {
	to, err := newest(links, until)
	if err != nil {
		return nil, err
	}
	if has(to.Snapshot()) {
		return []Link{to}, nil
	}
	way, err = order(to, links, there)
	if err == nil {
		return way, nil
	}
	found := len(links)
	for _, in := range inputs {
		further, err := in.further()
		if err != nil {
			return nil, err
		}
		links = append(links, further...)
	}
	if found == len(links) {
		return nil, err
	}
	if to, err = newest(links, until); err != nil {
		return nil, err
	}
	return order(to, links, there)
}

// newest gives the link that is to be restored: the one that is wanted or, without one, the newest until a time, unless that is zero.
// Where names have no dates, transactions tell.
func newest(links []Link, until time.Time) (Link, error) {
	if i := slices.IndexFunc(links, Link.wanted); i >= 0 {
		return links[i], nil
	}
	candidates := slices.DeleteFunc(slices.Clone(links), func(l Link) bool { return !until.IsZero() && l.Time().After(until) })
	if len(candidates) == 0 {
		return Link{}, fmt.Errorf("none of the streams is of a snapshot as old as %s", until.Format(time.DateTime))
	}
	return slices.MaxFunc(candidates, func(a, b Link) int {
		return cmp.Or(a.Time().Compare(b.Time()), cmp.Compare(a.TransID, b.TransID))
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
func order(to Link, links []Link, there There) ([]Link, error) {
	if way := shortest(to, links, there, map[btrfs.UUID]bool{}); way != nil {
		return way, nil
	}
	return nil, missing(to, links, there)
}

// shortest gives the shortest way, or nil. seen are those that are on it already: streams can be made that build upon each other.
func shortest(to Link, links []Link, there There, seen map[btrfs.UUID]bool) (way []Link) {
	if to.Full() || there(*to.Base()) {
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
		if before := shortest(l, links, there, seen); before != nil && (way == nil || len(before)+1 < len(way)) {
			way = append(before, to)
		}
	}
	return way
}

// missing finds the end of the way.
func missing(to Link, links []Link, there There) error {
	e := &MissingError{Of: to, UUID: to.Parent}
	for range links {
		i := slices.IndexFunc(links, func(l Link) bool { return l.UUID == e.UUID })
		if i < 0 || links[i].Full() || there(*links[i].Base()) {
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
