package set

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Folder is the directory at a destination in which the members have their folders, and complete sets their links.
type Folder struct {
	host host.Host
	path string // absolute
	dir  *host.Dir
}

// NewFolder names the folder at an absolute path.
func NewFolder(h host.Host, path string) *Folder { return &Folder{host: h, path: path} }

func (f *Folder) String() string { return engine.PlaceName(f.host.String() + f.path) }

func (f *Folder) open(ctx context.Context) (err error) {
	if f.dir == nil {
		f.dir, err = f.host.Open(ctx, f.path)
	}
	return err
}

// list gives the sets; a missing folder has none.
func (f *Folder) list(ctx context.Context) ([]host.Set, error) {
	err := f.open(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f.dir.ListSets(ctx)
}

// names gives as many of the names in the folder as can be known. What fails is told when a set is to be made.
func (f *Folder) names(ctx context.Context) []string {
	sets, err := f.list(ctx)
	names := namesOf(sets, func(host.Set) bool { return true })
	if err != nil || f.dir == nil {
		return names
	}
	content, _ := f.dir.List(ctx)
	return append(names, content.Others...)
}

// Lock keeps other runs out.
func (f *Folder) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	return f.dir.Lock(ctx, waiting)
}

// Close closes the folder, if it was opened.
func (f *Folder) Close() error {
	if f.dir == nil {
		return nil
	}
	return f.dir.Close()
}

// concludeDestinations marks complete sets, and applies the retention to the backups of all members as to one.
func (r *run) concludeDestinations(ctx context.Context) {
	r.report.Destinations = make([]engine.DestinationReport, len(r.Destinations))
	for d, to := range r.Destinations {
		told := &r.report.Destinations[d]
		told.Destination, told.Absent, told.OfSet = to.Name, to.Absent, true
		if to.Absent != "" || ctx.Err() != nil || r.DryRun || len(r.report.Members[0].Destinations) == 0 {
			continue
		}
		c := &conclusion{run: r, index: d, to: to, told: told}
		if err := c.conclude(ctx); err != nil {
			told.Failures = append(told.Failures, engine.Failure{Err: err})
		}
		c.release()
	}
}

// conclusion is the end of a run at one destination. All folders there are locked.
type conclusion struct {
	*run
	index   int
	to      Destination
	told    *engine.DestinationReport
	shelves []*engine.Shelf // by member; nil: not served
	unlock  func()
	sets    []host.Set
}

func (c *conclusion) release() {
	for _, s := range c.shelves {
		if s != nil {
			s.Release()
		}
	}
	if c.unlock != nil {
		c.unlock()
	}
}

func (c *conclusion) conclude(ctx context.Context) error {
	served := !c.unserved
	c.shelves = make([]*engine.Shelf, len(c.attempts))
	for _, i := range c.inTurn() { // so that no two sets wait for each other
		a, to := c.attempts[i], c.Members[i].Destinations[c.index]
		s, err := a.Shelf(ctx, to)
		if err != nil {
			return err
		}
		c.shelves[i] = s
		served = served && s != nil && !a.Failed(to) && len(a.Report().Failures) == 0
	}
	if !c.Members[0].NoTransfer {
		c.tellLacking()
	}
	if slices.Contains(c.shelves, nil) {
		return nil
	}
	complete := c.complete()
	if c.to.Folder != nil {
		if err := c.mark(ctx, complete); err != nil {
			return err
		}
	}
	if served {
		return c.prune(ctx, complete)
	}
	return nil
}

// inTurn gives the members in the order of their folders or, where they have none, of their sources.
func (c *conclusion) inTurn() []int {
	order := slices.Clone(c.locking)
	if c.to.Folder == nil {
		return order
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(c.Members[a].Name, c.Members[b].Name) })
	return order
}

// tellLacking tells whose backup of this run's name is missing.
func (c *conclusion) tellLacking() {
	var lacks []string
	for i, s := range c.shelves {
		if s == nil || !slices.Contains(s.Complete, c.name) {
			lacks = append(lacks, c.Members[i].Name)
		}
	}
	if len(lacks) > 0 || c.to.Folder == nil {
		c.told.Sets = append(c.told.Sets, engine.SetReport{Name: c.name, Lacks: lacks})
	}
}

// complete gives the names of which every member has its backup, oldest first.
func (c *conclusion) complete() []string {
	return slices.DeleteFunc(slices.Clone(c.shelves[0].Complete), func(name string) bool {
		return slices.ContainsFunc(c.shelves, func(s *engine.Shelf) bool { return !slices.Contains(s.Complete, name) })
	})
}

// mark makes the directories of links that are missing, and points a link to the newest. It removes what earlier runs left
// unfinished.
func (c *conclusion) mark(ctx context.Context, complete []string) (err error) {
	if c.unlock, err = c.Lock(ctx, c.to.Folder, c.to.Folder, !c.NoWait); err != nil {
		return err
	}
	if c.sets, err = c.to.Folder.list(ctx); err != nil {
		return err
	}
	unfinished := namesOf(c.sets, host.Set.Unfinished)
	if c.told.Leftovers, err = c.to.Folder.dir.RemoveSets(ctx, unfinished); err != nil {
		return err
	}
	var members []string
	for _, m := range c.Members {
		members = append(members, m.Name)
	}
	there := namesOf(c.sets, func(host.Set) bool { return true })
	var failures []error
	for _, name := range complete {
		if slices.Contains(there, name) {
			continue
		}
		if err := c.to.Folder.dir.MakeSet(ctx, name, members); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", c.to.Folder, err))
			continue
		}
		c.Log.Debug(fmt.Sprintf("%s: set %s is marked", c.to.Folder, name))
		c.told.Sets = append(c.told.Sets, engine.SetReport{Name: name})
		c.sets = append(c.sets, host.Set{Name: name, Members: members})
	}
	marked := namesOf(c.sets, func(s host.Set) bool { return slices.Contains(complete, s.Name) })
	if len(marked) > 0 {
		newest := slices.MaxFunc(marked, func(a, b string) int { return slices.Index(complete, a) - slices.Index(complete, b) })
		if err := c.to.Folder.dir.Link(ctx, c.Naming.Latest(), newest); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", c.to.Folder, err))
		}
	}
	return errors.Join(failures...)
}

func namesOf(sets []host.Set, which func(host.Set) bool) (names []string) {
	for _, s := range sets {
		if which(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// prune applies the retention. What goes loses its links first, with what has lost its backups already.
func (c *conclusion) prune(ctx context.Context, complete []string) error {
	candidates := make([][]retention.Snapshot, len(c.shelves), len(c.shelves)+1)
	for i, s := range c.shelves {
		candidates[i] = s.Candidates
	}
	if len(complete) > 0 {
		newest, _ := c.Naming.Snapshot(complete[len(complete)-1])
		newest.Holds = []string{"the newest complete set"}
		candidates = append(candidates, []retention.Snapshot{newest})
	}
	gone := make(map[string]bool)
	for i, s := range c.shelves {
		for _, name := range s.Decide(others(candidates, i)) {
			gone[name] = true
		}
	}
	links := namesOf(c.sets, func(s host.Set) bool {
		return !s.Unfinished() && (gone[s.Name] || len(s.Missing) == len(s.Members))
	})
	if len(links) > 0 {
		var err error
		if c.told.Deleted, err = c.to.Folder.dir.RemoveSets(ctx, links); err != nil {
			return fmt.Errorf("%s: %w", c.to.Folder, err)
		}
	}
	for _, s := range c.shelves {
		s.Prune(ctx)
	}
	return nil
}
