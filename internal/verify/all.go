package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/set"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A candidate is a backup in a folder.
type candidate struct {
	name string
	of   string // its source; those of one are likely to share most of what they hold
}

// Folders verifies all backups in folders, the newest first. Of each older one only that is read which the next newer one of its source does
// not hold in the same place on the disk, or which is damaged there. Folders of backups in a folder, such as those of the
// members of sets, are verified with it. What cannot be listed is a Result with the failure; the error is the end of the context.
func Folders(ctx context.Context, folders []Place, o Options, w Watcher) ([]Result, error) {
	all := []Result{}
	failed := func(folder Place, err error) {
		r := Result{Backup: folder.String(), Differences: []tree.Difference{}}.failed(err)
		w.Done(r)
		all = append(all, r)
	}
	for _, folder := range folders {
		members, missing, err := membersOf(ctx, folder)
		if err != nil {
			failed(folder, err)
		}
		for _, backup := range missing {
			failed(backup, hint.New(fmt.Errorf("%s is gone: its set is incomplete", backup), "delete what is left of the set, if it is to be so"))
		}
		for _, member := range members {
			results, err := inFolder(ctx, member, o, w)
			all = append(all, results...)
			if ctx.Err() != nil {
				return all, context.Cause(ctx)
			}
			if err != nil && (member == folder || !errors.Is(err, errNoBackups)) { // which those below may be without
				failed(member, err)
			}
		}
	}
	return all, ctx.Err()
}

// membersOf gives the folders of the members of all sets in a folder, or the folder itself and those of backups below it, and which backups
// sets lack.
func membersOf(ctx context.Context, folder Place) (members, missing []Place, err error) {
	sets, err := set.In(ctx, folder.Host, folder.Path)
	if err != nil {
		return nil, nil, err
	}
	dir, err := folder.Host.OpenTrees(ctx, folder.Path, tree.OpenOptions{})
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	trees, err := dir.ListTrees(ctx)
	if err != nil {
		return nil, nil, err
	}
	names := slices.Clone(trees.Below)
	for _, s := range sets {
		names = append(names, s.Members...)
		for _, member := range s.Missing {
			missing = append(missing, Place{folder.Host, path.Join(folder.Path, member, s.Name)})
		}
	}
	if backups, err := newestFirst(ctx, folder); err != nil {
		return nil, nil, err
	} else if len(backups) > 0 || len(names) == 0 {
		members = append(members, folder)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		members = append(members, Place{folder.Host, path.Join(folder.Path, name)})
	}
	return members, missing, nil
}

var errNoBackups = errors.New("no backups")

func inFolder(ctx context.Context, folder Place, o Options, w Watcher) (all []Result, err error) {
	backups, err := newestFirst(ctx, folder)
	if err != nil {
		return nil, err
	}
	if len(backups) == 0 {
		return nil, hint.New(fmt.Errorf("%s holds %w", folder, errNoBackups), "name a folder of backups")
	}
	newer := make(map[string]string)     // by source, one that was read
	damaged := make(map[string][]string) // by name of a backup, files that may have the damage of a newer one
	for _, b := range backups {
		options := o.verifyOptions()
		if !o.Fast && o.Part == (tree.Part{}) {
			options.Since, options.Also = newer[b.of], slices.Concat(damaged[b.name], damaged[newer[b.of]])
		}
		r := one(ctx, Place{folder.Host, path.Join(folder.Path, b.name)}, options, w)
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
		w.Done(r)
		all = append(all, r)
		noteDamage(damaged, b.name, r)
		if newer[b.of] = b.name; r.Failure != nil || differsBeyondDamage(r) {
			delete(newer, b.of)
		}
	}
	return all, nil
}

// noteDamage notes, by names of backups, which files of a backup are damaged, and which of others share that.
func noteDamage(damaged map[string][]string, backup string, r Result) {
	damaged[backup] = nil
	for _, d := range r.Differences {
		if d.Damage == nil {
			continue
		}
		damaged[backup] = append(damaged[backup], d.Path)
		for _, shared := range d.Damage.Shared {
			name, file, _ := strings.Cut(shared, "/")
			damaged[name] = append(damaged[name], file)
		}
	}
}

// differsBeyondDamage tells of differences that are no damaged blocks: files with those are read in older backups, too.
func differsBeyondDamage(r Result) bool {
	return slices.ContainsFunc(r.Differences, func(d tree.Difference) bool { return d.Damage == nil })
}

// newestFirst gives the backups in a folder, of both kinds.
func newestFirst(ctx context.Context, folder Place) (all []candidate, err error) {
	dir, err := folder.Host.OpenTrees(ctx, folder.Path, tree.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	trees, err := dir.ListTrees(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Backward(trees.Backups) {
		all = append(all, candidate{r.Name, r.Source})
	}
	content, err := dir.List(ctx)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	origins, _, _ := content.Recorded(folder.String()) // without them all count as of one source
	received := slices.DeleteFunc(slices.Clone(content.InDirectory), func(s btrfs.Subvolume) bool {
		return s.ReceivedUUID.IsZero() && !s.WasReceived() || !s.ReadOnly || btrfs.IsIncoming(s.Name)
	})
	slices.SortFunc(received, func(a, b btrfs.Subvolume) int { return cmp.Compare(b.CreatedIn, a.CreatedIn) })
	for _, s := range received {
		naming, _ := engine.NamingOf(s.Name)
		all = append(all, candidate{s.Name, fmt.Sprint(origins[s.ReceivedUUID], naming.Prefix)})
	}
	return all, nil
}
