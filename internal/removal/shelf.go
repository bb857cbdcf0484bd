package removal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// shelfWork is an order about backups that are kept as streams.
type shelfWork struct {
	*remover
	order Order
	place inventory.Place
	steps []Item
	stay  []Item
	freed int64
}

func (w *shelfWork) deletes() bool { return len(w.steps) > 0 }
func (w *shelfWork) items() []Item { return slices.Concat(w.steps, w.stay) }
func (w *shelfWork) frees() int64  { return w.freed }
func (w *shelfWork) names() []string {
	names := make([]string, len(w.steps))
	for i, s := range w.steps {
		names[i] = s.Name
	}
	return names
}

// carryOutOnShelf locks the store, examines it anew, and deletes.
func (r *remover) carryOutOnShelf(ctx context.Context, o Order) (w *shelfWork, err error) {
	release, err := o.Shelf.Lock(ctx, func(held *lock.HeldError) {
		r.Log.Info(fmt.Sprintf("waiting for %s", held.Holder()))
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if w, err = r.lookAtShelf(ctx, o); err != nil || !w.deletes() {
		return w, err
	}
	deleted, err := o.Shelf.Delete(ctx, w.names())
	for i := range w.steps {
		w.steps[i].Deleted = slices.Contains(deleted, w.steps[i].Name)
	}
	w.freed = w.place.StoredBytes(deleted)
	return w, err
}

// lookAtShelf examines what an order would do.
func (r *remover) lookAtShelf(ctx context.Context, o Order) (*shelfWork, error) {
	w := &shelfWork{remover: r, order: o}
	var err error
	if w.place, err = o.Shelf.Look(ctx); err != nil {
		return nil, err
	}
	if w.place.Streams.Unknown {
		return nil, hint.New(fmt.Errorf("%s: nothing is deleted, since this machine knows no key that signs backups", w.place.Folder),
			"give the public key of the machine that stored them: --signer KEY; `btrfs-backup key list` shows it there")
	}
	all, err := o.Choice.of(w.place)
	if err != nil {
		return nil, err
	}
	return w, w.examine(ctx, all)
}

// examine sorts what is chosen by whether it may go.
func (w *shelfWork) examine(ctx context.Context, all []chosen) error {
	entries := make(map[string]inventory.Entry, len(all))
	times := make(map[string]int)
	for _, e := range w.place.Entries("") {
		entries[e.Name] = e
		times[e.Name]++
	}
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	locked, err := w.order.Shelf.Locked(ctx, names)
	if err != nil {
		return fmt.Errorf("asking until when backups are locked: %w", err)
	}
	never := make(map[string]string) // why, by name
	for _, c := range all {
		e := entries[c.name]
		until, isLocked := locked[c.name]
		switch why := w.order.Choice.spares(w.place.Streams, e); {
		case isLocked:
			never[c.name] = "the server keeps it locked until " + until.Local().Format("2006-01-02 15:04")
		case e.Kind == inventory.Foreign:
			never[c.name] = "it may be somebody else's backup: " + strings.Join(e.Faults, ", ")
		case times[c.name] > 1:
			never[c.name] = "another one there has its name"
		case why != "":
			never[c.name] = why
		case !w.order.Choice.named() && e.Kind == inventory.Backup && !e.Complete:
			never[c.name] = "it cannot be restored, and is left alone"
		}
	}
	return w.decide(all, entries, never)
}

// decide makes steps of what may go.
func (w *shelfWork) decide(all []chosen, entries map[string]inventory.Entry, never map[string]string) error {
	needed := w.needed(all, never)
	var refusals []error
	refuse := func(item Item, text, forward string) {
		refusals = append(refusals, hint.New(fmt.Errorf("%s: refused: %s", item.Path(), text), forward))
	}
	for _, c := range all {
		e := entries[c.name]
		item := Item{Place: w.place.Folder, Name: c.name, Time: e.Time, Kind: e.Kind, Deleted: true, Reasons: c.reasons}
		why, forward := never[c.name], ""
		if why == "" {
			if why = needed[c.name]; why != "" {
				forward = evenParent
				item.Means = w.meaning(c.name, why, all)
			}
		}
		insists := w.order.Choice.named() && w.EvenParent && forward != ""
		ofSet, forwardOfSet := w.membership(e)
		switch {
		case never[c.name] == "" && ofSet != "":
			refuse(item, ofSet, forwardOfSet)
		case why == "" || insists:
			w.steps = append(w.steps, item)
		case w.order.Choice.named():
			text := why
			if len(item.Means) > 0 {
				text = strings.Join(item.Means, "; ")
			}
			refuse(item, text, forward)
		default:
			item.Deleted, item.Means, item.Reasons = false, nil, []string{why}
			w.stay = append(w.stay, item)
		}
	}
	if len(refusals) > 0 {
		return &refusedError{refusals}
	}
	w.freed = w.place.StoredBytes(w.names())
	return nil
}

// membership tells why a named backup stays as one of a complete set; "" if it need not.
func (w *shelfWork) membership(e inventory.Entry) (why, forward string) {
	newest := ""
	for _, o := range w.place.Entries("") {
		if o.InSet() {
			newest = max(newest, o.Name)
		}
	}
	switch {
	case !w.order.Choice.named() || !e.InSet():
		return "", ""
	case !w.EvenMember:
		return "it is a member of a set", "to delete the whole set, name the backup of each member, with --even-member"
	case e.Name == newest && !w.EvenParent:
		return "it is in the newest complete set there", evenParent
	}
	return "", ""
}

const isNewest = "the newest one"

// needed tells of what is chosen why it is needed: by others that stay, by an upload, or as the newest.
func (w *shelfWork) needed(all []chosen, never map[string]string) map[string]string {
	goes := make(map[string]bool)
	for _, c := range all {
		goes[c.name] = never[c.name] == ""
	}
	why := make(map[string]string)
	newest := w.place.Streams.Newest()
	var verdicts []retention.Verdict // oldest first
	for _, e := range w.place.ByTime() {
		switch {
		case e.UnderWay:
			why[e.Name] = "an upload may be under way"
		case e.Kind != inventory.Backup || !e.Complete:
		case e.Name == newest && goes[e.Name]:
			why[e.Name] = isNewest
			fallthrough
		default:
			verdicts = append(verdicts, retention.Verdict{Name: e.Name, Keep: !goes[e.Name] || e.Name == newest && !w.order.Choice.named()})
		}
	}
	for _, v := range plan.HoldChains(verdicts, w.place.Streams.Chains) {
		if v.Held && goes[v.Name] {
			why[v.Name] = strings.Join(v.Reasons, ", ")
		}
	}
	return why
}

// meaning tells what it means that something needed goes.
func (w *shelfWork) meaning(name, why string, all []chosen) []string {
	var lost []string
	chains := w.place.Streams.Chains
	for _, e := range w.place.ByTime() {
		line, _ := chains.Line(e.Name)
		isChosen := slices.ContainsFunc(all, func(c chosen) bool { return c.name == e.Name })
		if e.Name != name && !isChosen && slices.Contains(line, name) {
			lost = append(lost, e.Name)
		}
	}
	var means []string
	if len(lost) > 0 {
		means = append(means, fmt.Sprintf("what builds on it can never be restored again: %s", engine.Few(lost)))
	}
	switch {
	case why == isNewest:
		means = append(means, "it is the newest one there")
	case len(lost) == 0:
		means = append(means, why)
	}
	return means
}
