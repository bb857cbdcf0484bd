package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) listSets(ctx context.Context, d *local.Dir, _ protocol.Dir) ([]host.Set, error) {
	return d.ListSets(ctx)
}

func (s *server) makeSet(ctx context.Context, d *local.Dir, c protocol.MakeSetCall) (none protocol.Nothing, err error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return none, err
	}
	return none, d.MakeSet(ctx, c.Name, c.Members)
}

func (s *server) removeSets(ctx context.Context, d *local.Dir, c protocol.RemoveSetsCall) (protocol.DeleteReply, error) {
	allowed, refusal := c.Names, error(nil)
	if s.o.Limits != (Limits{}) {
		sets, err := d.ListSets(ctx)
		if err != nil {
			return protocol.DeleteReply{}, err
		}
		allowed, refusal = s.o.Limits.removable(sets, c.Names)
	}
	removed, err := d.RemoveSets(ctx, allowed)
	return protocol.NewDeleteReply(removed, errors.Join(err, refusal)), nil
}

// removable gives the names of the sets that may be removed, and the error for the others. With AppendOnly, these are the ones that
// are unfinished and those that hold nothing any more.
func (l Limits) removable(sets []host.Set, names []string) (allowed []string, err error) {
	var refused []error
	for _, name := range names {
		i := slices.IndexFunc(sets, func(set host.Set) bool { return set.Name == name })
		switch {
		case i < 0:
			refused = append(refused, fmt.Errorf("%q is not the name of a set", name))
		case l.AppendOnly && !sets[i].Unfinished() && len(sets[i].Missing) < len(sets[i].Members):
			refused = append(refused, hint.New(fmt.Errorf("refused: this key may not delete %q", name),
				"its agent runs with --append-only and deletes old backups itself: leave out --keep-backups and --num-backups"))
		default:
			allowed = append(allowed, name)
		}
	}
	return allowed, joined(refused...)
}
