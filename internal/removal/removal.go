// Package removal deletes snapshots, backups and sets of them on any host: those that are named, that are older than a date, or that a
// policy gives up.
//
// Of one that is named, all is checked before any is deleted: it must be certain that it is ours, nothing may need it, and it is no
// single member of a set; the user may insist on the latter two, but on nothing that is in use. What is chosen by age or policy is
// left where a named one would be refused. Nothing is deleted in a folder that cannot be listed completely, or whose records cannot be
// read. A folder is locked and listed anew before anything is deleted there. Records of what was deleted go with it.
package removal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/space"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// An Order tells what is to be deleted in a folder.
type Order struct {
	Host   host.Trees
	Folder string          // absolute
	Shelf  inventory.Shelf // in place of a folder, where backups are kept as streams
	Choice Choice
}

// A Choice is what is to be deleted in a folder: Named, Older or ByPolicy.
type Choice interface {
	// of gives what is chosen. What is named and not there is an error.
	of(p inventory.Place) ([]chosen, error)
	// named tells that what cannot be deleted is refused; else it stays.
	named() bool
	// spares tells why an entry is not meant, or gives "".
	spares(j judge, e inventory.Entry) string
}

// judge tells whose backups there are.
type judge interface {
	// IsOf tells that a backup is certainly one of a source.
	IsOf(e inventory.Entry, o inventory.Owner) bool
}

// task is an order that was looked at.
type task interface {
	deletes() bool
	items() []Item
	frees() int64 // bytes, or space.Unknown
}

// Options tell how all orders are carried out.
type Options struct {
	Log        *slog.Logger
	DryRun     bool
	EvenParent bool // delete what the next increment would build upon
	EvenMember bool // delete single members of sets
}

// An Item is what was deleted, or stays although it was chosen.
type Item struct {
	Place   string         `json:"place"`
	Name    string         `json:"name"`
	Time    time.Time      `json:"time,omitzero"`
	Kind    inventory.Kind `json:"kind"`
	Deleted bool           `json:"deleted"`           // or would be, in a dry run
	Reasons []string       `json:"reasons,omitempty"` // why it goes, or stays
	Means   []string       `json:"means,omitempty"`   // what it means that it goes
}

// Done is what was deleted, or in a dry run would be.
type Done struct {
	Items []Item `json:"items"`
	Freed *int64 `json:"freed,omitempty"` // bytes of data; nil: unknown
}

// Path is the place and the name.
func (i Item) Path() string { return i.Place + "/" + i.Name }

// Run carries out the orders. If something that is named is refused, nothing is deleted, and the error tells all that is refused. Else
// each order may fail alone.
func Run(ctx context.Context, orders []Order, o Options) (did Done, err error) {
	r := &remover{Options: o}
	did.Items = []Item{}
	works := make([]task, len(orders))
	var failures, refusals []error
	for i, order := range orders {
		w, err := r.look(ctx, order)
		if ctx.Err() != nil {
			return did, context.Cause(ctx)
		}
		var refused *refusedError
		if errors.As(err, &refused) {
			refusals = append(refusals, refused.errs...)
		} else if err != nil {
			failures = append(failures, err)
		}
		works[i] = w
	}
	if len(refusals) > 0 {
		return did, errors.Join(append(refusals, failures...)...)
	}
	var freed int64
	for i, w := range works {
		if w == nil {
			continue
		}
		if !o.DryRun && w.deletes() {
			w, err = r.carryOut(ctx, orders[i])
			failures = append(failures, err)
		}
		if w != nil {
			did.Items = append(did.Items, w.items()...)
			freed = add(freed, w.frees())
		}
	}
	if freed != space.Unknown && did.Deleted() {
		did.Freed = &freed
	}
	return did, errors.Join(failures...)
}

// add sums up what is freed, if both is known.
func add(a, b int64) int64 {
	if a == space.Unknown || b == space.Unknown {
		return space.Unknown
	}
	return a + b
}

// remover is a call of Run.
type remover struct{ Options }

// refusedError holds all that is refused of one order.
type refusedError struct{ errs []error }

func (e *refusedError) Error() string   { return errors.Join(e.errs...).Error() }
func (e *refusedError) Unwrap() []error { return e.errs }

// look examines what an order would do, without a lock.
func (r *remover) look(ctx context.Context, o Order) (task, error) {
	if o.Shelf != nil {
		return taskOf(r.lookAtShelf(ctx, o))
	}
	return taskOf(r.lookAt(ctx, o))
}

// taskOf makes no task of a pointer to none.
func taskOf[T any, P interface {
	*T
	task
}](w P, err error) (task, error) {
	if w == nil {
		return nil, err
	}
	return w, err
}

func (r *remover) lookAt(ctx context.Context, o Order) (*work, error) {
	w, err := r.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.examine(ctx); err != nil || !r.DryRun {
		return w, err
	}
	w.weigh(ctx)
	return w, nil
}

// carryOut locks what an order is about, examines it anew, and deletes.
func (r *remover) carryOut(ctx context.Context, o Order) (task, error) {
	if o.Shelf != nil {
		return taskOf(r.carryOutOnShelf(ctx, o))
	}
	return taskOf(r.carryOutIn(ctx, o))
}

func (r *remover) carryOutIn(ctx context.Context, o Order) (*work, error) {
	w, err := r.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer w.close()
	for _, f := range w.folders() {
		_, err := f.dir.Lock(ctx, func(held *lock.HeldError) {
			r.Log.Info(fmt.Sprintf("%s: waiting for %s", f.Folder, held.Holder()))
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Folder, err)
		}
	}
	for _, f := range w.folders() {
		if err := f.list(ctx); err != nil {
			return nil, err
		}
	}
	w.gather()
	if err := w.examine(ctx); err != nil {
		return nil, err
	}
	w.weigh(ctx)
	return w, w.delete(ctx)
}
