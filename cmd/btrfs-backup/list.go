package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/tree"
	"btrfs-backup/internal/volume"
)

type listOptions struct {
	folder string
	prefix string
	json   bool
	reach  job.Reach
}

func newList(env environment) *cobra.Command {
	o := &listOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "list [options] PLACE...",
		Short: "Show the snapshots and backups of places",
		Example: "  btrfs-backup list /home nas:/backup/home    snapshots of /home, its backups\n" +
			"  btrfs-backup list --json /mnt/usb/home",
		Long: `Show the subvolumes in each PLACE, here or on another machine: the folder of a
destination, or a source, which stands for its snapshot folder. Sizes are known
of backups made by rsync, and where quotas are enabled. What somebody altered
since it was taken or received is marked; it is no backup any more.`,
		Args:                  needPlace("PLACE"),
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, args []string) error { return list(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "show only names that begin with `PREFIX`")
	f.StringVarP(&o.folder, "snapshot-folder", "f", volume.DefaultFolder, "`FOLDER` in a source")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

// listed is one line of the listing.
type listed struct {
	Place        string     `json:"place"`
	Name         string     `json:"name"`
	Time         time.Time  `json:"time"`
	UUID         btrfs.UUID `json:"uuid"` // none of what is no subvolume
	ParentUUID   btrfs.UUID `json:"parent_uuid"`
	ReceivedUUID btrfs.UUID `json:"received_uuid"`
	Parent       string     `json:"parent,omitempty"` // its name, if it is in the same place
	ReadOnly     bool       `json:"read_only"`
	Kind         kind       `json:"kind"`
	Complete     bool       `json:"complete"`
	Altered      bool       `json:"altered,omitempty"` // since it was taken or received
	Size         *uint64    `json:"size,omitempty"`
	Exclusive    *uint64    `json:"exclusive,omitempty"`
	Source       string     `json:"source,omitempty"`        // of a backup made by rsync
	Files        int64      `json:"files,omitempty"`         // in it
	MissingFiles int        `json:"missing_files,omitempty"` // that could not be read when it was made
}

// kind tells what a subvolume is, as far as it can be seen from outside.
type kind string

const (
	snapshotKind   kind = "snapshot"
	backupKind     kind = "backup"
	unfinishedKind kind = "unfinished"
	writableKind   kind = "writable"
)

func list(ctx context.Context, env environment, o *listOptions, places []string) error {
	if filepath.IsAbs(o.folder) {
		return misused("--snapshot-folder is relative to a source here", "name a folder outside the source as a PLACE")
	}
	contents, errs, err := o.contents(ctx, env, places)
	if err != nil {
		return err
	}
	all := []listed{}
	var failures []error
	for i, content := range contents {
		if errs[i] != nil {
			failures = append(failures, errs[i])
			continue
		}
		entries := describe(content, o.prefix)
		all = append(all, entries...)
		if o.json {
			continue
		}
		if err := printList(env.stdout, content, entries); err != nil {
			return err
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, all))
	}
	return errors.Join(failures...)
}

// content is what a place holds.
type content struct {
	volume.Content
	trees tree.Listing // backups made by rsync
}

// contents lists the places, all at once, since some may be far away.
func (o *listOptions) contents(ctx context.Context, env environment, texts []string) ([]content, []error, error) {
	log := env.newLog(slog.LevelWarn)
	places, machines, err := look(env, log, o.reach, texts)
	if err != nil {
		return nil, nil, err
	}
	defer machines.Close()
	contents, errs := make([]content, len(places)), make([]error, len(places))
	var listing sync.WaitGroup
	for i, p := range places {
		h, path := machines.At(p)
		listing.Go(func() { contents[i], errs[i] = contentOf(ctx, h, path, o.folder) })
	}
	listing.Wait()
	return contents, errs, nil
}

// contentOf lists a place. What is not on btrfs holds backups made by rsync, or nothing of ours.
func contentOf(ctx context.Context, h host.Trees, path, snapshotFolder string) (content, error) {
	var trees tree.Listing
	subvolumes, err := volume.List(ctx, h, path, snapshotFolder)
	if err != nil && !errors.Is(err, btrfs.ErrNotBtrfs) {
		return content{}, err
	}
	dir, treeErr := h.OpenTrees(ctx, path, tree.OpenOptions{})
	if treeErr == nil {
		trees, treeErr = dir.ListTrees(ctx)
		treeErr = errors.Join(treeErr, dir.Close())
	}
	switch {
	case err == nil && subvolumes.Folder != h.String()+path: // the snapshots of a source
		return content{Content: subvolumes}, nil
	case err == nil:
		return content{subvolumes, trees}, nil
	case treeErr != nil || trees.ID == "":
		return content{}, err
	}
	return content{volume.Content{Folder: h.String() + path, Free: trees.Free}, trees}, nil
}

func printList(w io.Writer, content content, entries []listed) error {
	what := "subvolumes"
	if content.Subvolumes == nil && content.trees.ID != "" {
		what = "backups"
	}
	fmt.Fprintf(w, "%s: %d %s, %s free\n", progress.Line(content.Folder), len(entries), what, progress.Bytes(int64(content.Free)))
	if len(entries) == 0 {
		return nil
	}
	rows := [][]string{{"NAME", "TIME", "STATE", "SIZE", "PARENT", "UUID"}}
	for _, l := range entries {
		rows = append(rows, l.row())
	}
	return report.WriteColumns(w, rows)
}

func describe(content content, prefix string) []listed {
	names := make(map[btrfs.UUID]string)
	for _, s := range content.Subvolumes {
		names[s.UUID] = s.Name
	}
	var all []listed
	for _, s := range content.Subvolumes {
		if !strings.HasPrefix(s.Name, prefix) {
			continue
		}
		l := listed{
			Place: content.Folder, Name: s.Name, Time: timeOf(s),
			UUID: s.UUID, ParentUUID: s.ParentUUID, ReceivedUUID: s.ReceivedUUID, Parent: names[s.ParentUUID],
			ReadOnly: s.ReadOnly, Kind: kindOf(s), Altered: s.TouchedIn != 0,
		}
		l.Complete = (l.Kind == snapshotKind || l.Kind == backupKind) && !l.Altered
		if r, ok := content.record(s.Name); ok {
			l.describe(r)
		}
		if size, ok := content.Sizes[s.ID]; ok {
			l.Size, l.Exclusive = &size.Referenced, &size.Exclusive
		}
		all = append(all, l)
	}
	if content.Subvolumes == nil {
		all = append(all, describeTrees(content, prefix)...)
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// record gives what is known of a backup made by rsync.
func (c content) record(name string) (tree.Record, bool) {
	i := slices.IndexFunc(c.trees.Backups, func(r tree.Record) bool { return r.Name == name })
	if i < 0 {
		return tree.Record{}, false
	}
	return c.trees.Backups[i], true
}

func (l *listed) describe(r tree.Record) {
	l.Altered = false // it was made writable, and filled
	l.Kind, l.Complete, l.Source, l.Files, l.MissingFiles = backupKind, r.Complete(), r.Source, r.Files, r.Missing
	size := uint64(r.Bytes)
	l.Parent, l.Size = r.Base, &size
}

// describeTrees describes backups that are no subvolumes.
func describeTrees(content content, prefix string) []listed {
	var all []listed
	add := func(name string, k kind) *listed {
		s := btrfs.Subvolume{Name: name}
		all = append(all, listed{Place: content.Folder, Name: name, Time: timeOf(s), Kind: k})
		return &all[len(all)-1]
	}
	for _, r := range content.trees.Backups {
		if strings.HasPrefix(r.Name, prefix) {
			add(r.Name, backupKind).describe(r)
		}
	}
	for _, name := range content.trees.Leftovers {
		if of, _ := btrfs.IncomingOf(name); strings.HasPrefix(of, prefix) {
			add(name, unfinishedKind)
		}
	}
	return all
}

func kindOf(s btrfs.Subvolume) kind {
	switch {
	case isIncoming(s.Name):
		return unfinishedKind
	case !s.ReadOnly:
		return writableKind
	case !s.Received():
		return snapshotKind
	default:
		return backupKind
	}
}

func isIncoming(name string) bool {
	_, ok := btrfs.IncomingOf(name)
	return ok
}

// timeOf gives the time in a name, whatever its prefix, or else the one at which the subvolume was made where it is.
func timeOf(s btrfs.Subvolume) time.Time {
	const digits = len("20060102-150405")
	naming := engine.Naming{Prefix: s.Name[:max(len(s.Name)-digits, 0)]}
	if t, ok := naming.Time(s.Name); ok {
		return t
	}
	return s.Created
}

// row puts the UUID last, where a narrow terminal wraps the line.
func (l listed) row() []string {
	parent, size := progress.Name(l.Parent), "-"
	if l.Parent == "" && !l.ParentUUID.IsZero() {
		parent = l.ParentUUID.String()[:8] + "..." // --json has all of it
	} else if l.Parent == "" {
		parent = "-"
	}
	if l.Size != nil {
		size = progress.Bytes(int64(*l.Size))
	}
	state := string(l.Kind)
	switch {
	case l.MissingFiles > 0:
		state += fmt.Sprintf(", INCOMPLETE: %d missing", l.MissingFiles)
	case l.Altered:
		state += ", altered since"
	case !l.Complete:
		state += ", not complete"
	}
	uuid := "-"
	if !l.UUID.IsZero() {
		uuid = l.UUID.String()
	}
	return []string{progress.Name(l.Name), l.Time.Format(time.DateTime), state, size, parent, uuid}
}
