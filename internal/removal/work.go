package removal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/space"
)

// work is one order.
type work struct {
	*remover
	order   Order
	main    *folder
	members []*folder // whose backups are in the sets of main, by name
	sets    []*step   // to be deleted as a whole
	steps   []*step   // single ones in main
	stay    []Item    // chosen, but not to be deleted
	freed   int64     // bytes of data that go with all of them, or space.Unknown
}

// A step deletes one snapshot, backup or set.
type step struct {
	in      *folder
	item    Item
	members []*step // of a set
}

func (r *remover) open(ctx context.Context, o Order) (*work, error) {
	main, err := openFolder(ctx, o.Host, o.Folder)
	if err != nil {
		return nil, err
	}
	w := &work{remover: r, order: o, main: main}
	var names []string
	for _, s := range main.Sets {
		names = append(names, s.Members...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		f, err := openFolder(ctx, o.Host, path.Join(o.Folder, name))
		if err != nil {
			w.close()
			return nil, err
		}
		w.members = append(w.members, f)
	}
	w.gather()
	return w, nil
}

// gather lets the folder of sets know its members, as they are listed now.
func (w *work) gather() {
	w.main.Below = nil
	for _, f := range w.members {
		w.main.Below = append(w.main.Below, f.Place)
	}
}

// folders gives all in the order in which runs lock them.
func (w *work) folders() []*folder { return append(slices.Clone(w.members), w.main) }

func (w *work) close() {
	for _, f := range w.folders() {
		f.close()
	}
}

func (w *work) frees() int64 { return w.freed }

func (w *work) deletes() bool { return len(w.sets)+len(w.steps) > 0 }

// items gives what is to be deleted, and what stays.
func (w *work) items() (items []Item) {
	for _, s := range w.sets {
		if slices.ContainsFunc(w.main.Sets, func(is host.Set) bool { return is.Name == s.item.Name }) {
			items = append(items, s.item)
		}
		for _, m := range s.members {
			items = append(items, m.item)
		}
	}
	for _, s := range w.steps {
		items = append(items, s.item)
	}
	return append(items, w.stay...)
}

// examine finds what is to be deleted.
func (w *work) examine(ctx context.Context) error {
	w.sets, w.steps, w.stay = nil, nil, nil
	all, err := w.order.Choice.of(w.main.Place)
	if err != nil {
		return err
	}
	var refusals []error
	for _, c := range all {
		step, problems, err := w.step(ctx, c)
		switch {
		case err != nil:
			return err
		case len(problems) > 0 && w.order.Choice.named():
			for _, p := range problems {
				refusals = append(refusals, p.err)
			}
		case len(problems) > 0:
			stays := step.item
			stays.Deleted, stays.Means, stays.Reasons = false, nil, nil
			for _, p := range problems {
				stays.Reasons = append(stays.Reasons, p.why)
			}
			w.stay = append(w.stay, stays)
		case c.set:
			w.sets = append(w.sets, step)
		default:
			w.steps = append(w.steps, step)
		}
	}
	if len(refusals) > 0 {
		return &refusedError{refusals}
	}
	return nil
}

// A problem is why something is not to be deleted.
type problem struct {
	why string
	err error
}

func (w *work) step(ctx context.Context, c chosen) (s *step, problems []problem, err error) {
	if !c.set {
		return w.single(ctx, w.main, c, true)
	}
	s = &step{in: w.main, item: Item{Place: w.main.Folder, Name: c.name, Time: inventory.TimeIn(c.name), Kind: inventory.Set,
		Deleted: true, Reasons: c.reasons}}
	if slices.ContainsFunc(w.main.Sets, func(o host.Set) bool { return o.Name > c.name && len(o.Missing) == 0 }) || w.EvenParent && w.order.Choice.named() {
		// a newer complete one remains, or is not asked for
	} else if slices.ContainsFunc(w.main.Sets, func(o host.Set) bool { return o.Name == c.name && len(o.Missing) == 0 }) {
		problems = append(problems, problem{"the newest complete set", hint.New(
			fmt.Errorf("%s: refused: it is the newest complete set there", s.item.Path()), evenParent)})
	}
	for _, f := range w.members {
		if e, there := f.entry(c.name); !there || e.Kind != inventory.Backup {
			continue
		}
		member, more, err := w.single(ctx, f, c, false)
		if err != nil {
			return nil, nil, err
		}
		s.members, problems = append(s.members, member), append(problems, more...)
	}
	return s, problems, nil
}

const evenParent = "--even-parent deletes it all the same"

// single examines one snapshot or backup.
func (w *work) single(ctx context.Context, f *folder, c chosen, alone bool) (s *step, problems []problem, err error) {
	e, _ := f.entry(c.name)
	s = &step{in: f, item: Item{Place: f.Folder, Name: c.name, Time: e.Time, Kind: e.Kind, Deleted: true, Reasons: c.reasons}}
	refuse := func(why, text, forward string) {
		problems = append(problems, problem{why, hint.New(fmt.Errorf("%s: refused: %s", s.item.Path(), text), forward)})
	}
	if why, forward := f.unsafe(e); why != "" {
		refuse(why, why, forward)
		return s, problems, nil
	}
	if why := w.order.Choice.spares(f.judge, e); why != "" {
		refuse(why, why, "")
		return s, problems, nil
	}
	isMember, inNewest := f.membership(c.name)
	switch {
	case !alone || !isMember:
	case !w.EvenMember:
		refuse("a member of a set", "it is a member of a set", fmt.Sprintf(
			"delete the whole set: btrfs-backup delete %s/%s; or this one alone with --even-member", path.Dir(f.Folder), c.name))
	case inNewest && !w.EvenParent:
		refuse("in the newest complete set", "it is in the newest complete set there", evenParent)
	}
	needs, err := f.needs(e)
	if err != nil || len(needs) == 0 {
		return s, problems, err
	}
	insists := w.EvenParent && w.order.Choice.named()
	if !w.order.Choice.named() {
		for _, n := range needs {
			problems = append(problems, problem{why: n.why})
		}
		return s, problems, nil
	}
	size := f.sizeOf(ctx, e)
	for _, n := range needs {
		s.item.Means = append(s.item.Means, n.means(size))
	}
	if !insists {
		refuse(needs[0].why, strings.Join(s.item.Means, "; "), evenParent)
	}
	return s, problems, nil
}

// membership tells whether a name is that of a member of a set in the directory above, and of the newest complete one.
func (f *folder) membership(name string) (isMember, inNewest bool) {
	newest := ""
	for _, s := range f.sets {
		if s.Name == name && slices.Contains(s.Members, path.Base(f.Path)) {
			isMember = true
		}
		if len(s.Missing) == 0 {
			newest = max(newest, s.Name)
		}
	}
	return isMember, isMember && name == newest
}

// unsafe tells why an entry is never deleted, and what to do.
func (f *folder) unsafe(e inventory.Entry) (why, forward string) {
	at := f.Path + "/" + e.Name
	switch f.InUse()[e.Name] {
	case "":
	case "mounted":
		return "it is mounted", "unmount it first: `findmnt -t btrfs` shows where"
	default:
		return "it is the default subvolume, which is mounted where none is named", "make another one that, such as the top level: " +
			"btrfs subvolume set-default 5 " + f.Path
	}
	if why := f.judge.Doubt(e); why != "" {
		return why, "if nobody needs it: btrfs subvolume delete " + at
	}
	if f.trees == nil && e.Kind == inventory.Snapshot && f.dir.Status().Btrfs {
		return "whether there is a record of it cannot be known: " + f.noTrees.Error(), cmp.Or(hint.Of(f.noTrees), "run it on that machine")
	}
	return "", ""
}

// weigh finds what is freed by it, where that can be told in a reasonable time.
func (w *work) weigh(ctx context.Context) {
	w.freed = 0
	all := slices.Clone(w.steps)
	for _, s := range w.sets {
		all = append(all, s.members...)
	}
	for _, f := range w.folders() {
		var names []string
		for _, s := range all {
			if s.in == f {
				names = append(names, s.item.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		freed, err := f.dir.Freed(ctx, [][]string{names}, patience)
		if err != nil || len(freed) != 1 { // such as of a key that may not ask
			freed = []int64{space.Unknown}
		}
		w.freed = add(w.freed, freed[0])
	}
}

// delete deletes all that examine found. A set loses its links first, so that it is never an incomplete one.
func (w *work) delete(ctx context.Context) error {
	var errs []error
	linked := slices.DeleteFunc(slices.Clone(w.sets), func(s *step) bool {
		return !slices.ContainsFunc(w.main.Sets, func(is host.Set) bool { return is.Name == s.item.Name })
	})
	kept := make(map[string]bool) // sets that keep their links
	if len(linked) > 0 {
		var names []string
		for _, s := range linked {
			names, kept[s.item.Name] = append(names, s.item.Name), true
		}
		removed, err := w.main.dir.RemoveSets(ctx, names)
		errs = append(errs, w.main.explained(err))
		for _, name := range removed {
			delete(kept, name)
		}
		errs = append(errs, w.main.relink(context.WithoutCancel(ctx), removed))
	}
	steps := slices.Clone(w.steps)
	for _, s := range w.sets {
		if s.item.Deleted = !kept[s.item.Name]; s.item.Deleted {
			steps = append(steps, s.members...)
			continue
		}
		for _, m := range s.members {
			m.item.Deleted = false
		}
	}
	for _, f := range w.folders() {
		var names []string
		for _, s := range steps {
			if s.in == f {
				names = append(names, s.item.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		deleted, err := f.remove(ctx, names)
		errs = append(errs, err)
		for _, s := range steps {
			if s.in == f {
				s.item.Deleted = slices.Contains(deleted, s.item.Name)
			}
		}
	}
	return errors.Join(errs...)
}
