package job

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/set"
	"github.com/btrfs-backup/btrfs-backup/internal/volume"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Member is one of several sources that are backed up as one.
type Member struct {
	Name   string // of its folder at each destination
	Source Place
}

// HasMembers tells that the job has several sources.
func (s *Spec) HasMembers() bool { return len(s.Members) > 0 || s.Recursive }

// Prepare makes the parts of a job of which Check has nothing to say, and gives what runs it. Errors are as those of Build.
func (s *Spec) Prepare(ctx context.Context, m *Machines, e Environment) (run func(context.Context) (*engine.Report, error), err error) {
	if s.HasMembers() {
		made, err := s.BuildSet(ctx, m, e)
		return func(ctx context.Context) (*engine.Report, error) { return set.Run(ctx, made) }, err
	}
	made, err := s.Build(ctx, m, e)
	return func(ctx context.Context) (*engine.Report, error) { return engine.Run(ctx, made) }, err
}

// checkMembers gives what can be said against a job with several sources.
func (s *Spec) checkMembers() (c Complaints) {
	if s.Source != nil && len(s.Members) > 0 {
		c.Add("", "leave out one of them", "source %s: the job has a set of sources, too", s.Source)
	}
	if s.Recursive && len(s.Members) > 0 {
		c.Add("recursive", "leave it out, and name the subvolumes in the set", "is for a single source")
	}
	if s.naming().Numbered() {
		c.Add("name", "leave it out", "%s numbers each source by itself, but several sources bear one name", s.Scheme)
	}
	if s.Subvolume.OnlyChanged {
		c.Add("only-changed", "leave it out", "is for a single source")
	}
	if s.Subvolume.Relay {
		c.Add("relay", "make a job for each folder", "is for a single source")
	}
	if s.Subvolume.LockedDests {
		c.Add("locked-dests", "name the destinations", "is for a single source")
	}
	if s.Recursive {
		s.checkRecursive(&c)
	}
	for _, p := range s.Destinations {
		switch p := p.(type) {
		case Command, Daemon:
			c.Add("", "name a folder here or on another machine, or a store", "%s: several sources need a place for each", p)
		}
	}
	for i, m := range s.Members {
		if why := s.badName(m.Name); why != "" {
			c.Add("", "use a name such as root or data, for its folder at each destination", "member %q of the set: %s", m.Name, why)
		}
		for _, other := range s.Members[:i] {
			switch {
			case other.Name == m.Name:
				c.Add("", "name each member otherwise", "member %q of the set: is there twice", m.Name)
			case m.Source != nil && other.Source != nil && other.Source.String() == m.Source.String():
				c.Add("", "leave out one of them", "members %s and %s of the set: are both %s", other.Name, m.Name, m.Source)
			}
		}
	}
	return append(c, s.checkEach()...)
}

// checkEach gives what can be said against the members if their engine is known.
func (s *Spec) checkEach() (c Complaints) {
	for _, m := range s.Members {
		one := s.member(m)
		if e, known := one.engine(); known {
			one.only(e)
			c = append(c, one.checkFor(e)...)
		}
	}
	return c
}

func (s *Spec) checkRecursive(c *Complaints) {
	_, isDaemon := s.Source.(Daemon)
	if s.Engine == Rsync || isDaemon {
		c.Add("recursive", "leave it out: rsync copies all that is in a source", "is for subvolumes")
	}
	s.checkFullEvery(s.Engine, c)
	if s.Engine == Mirror {
		s.checkMirrorPlaces(c)
	}
	for _, o := range s.onlyRsync() {
		if o.given && o.name != "exclude" {
			c.Add(o.name, "--exclude PATTERN leaves subvolumes out", "is for copies by rsync, not for --recursive")
		}
	}
	for _, f := range s.Copy.Filters {
		if _, err := path.Match(f.Value, ""); err != nil {
			c.Add(f.Rule, "use * ? [...] for parts of names", "%s: %w", f.Value, err)
		}
	}
}

// badName tells why a member cannot have a name; "" if it can.
func (s *Spec) badName(name string) string {
	const longest = 200
	_, dated := engine.NamingOf(name)
	switch {
	case name == "":
		return "it has no name"
	case strings.ContainsAny(name, "/\x00"):
		return "the name has a slash"
	case strings.HasPrefix(name, "."):
		return "the name is hidden"
	case dated || s.naming().Ours(name):
		return "the name looks like that of a backup"
	case len(name) > longest:
		return fmt.Sprintf("the name has more than %d bytes", longest)
	}
	return ""
}

// member gives the job of one member: its folders lie in those of the set.
func (s *Spec) member(m Member) Spec {
	one := *s
	one.Members, one.Recursive, one.Source = nil, false, m.Source
	one.Destinations, one.To = nil, make(map[string]To)
	for _, p := range s.Destinations {
		if p == nil {
			continue
		}
		inner := inside(p, m.Name)
		one.Destinations = append(one.Destinations, inner)
		if to, ok := s.To[p.String()]; ok {
			one.To[inner.String()] = to
		}
	}
	if s.Recursive {
		one.Copy.Filters = nil // which leave out subvolumes, and no files
	}
	if s.Recursive && m.Name != "" && s.Engine != Mirror { // a subvolume in which there are backups is one to be backed up, too
		one.Engine = Btrfs
	}
	if path.IsAbs(s.Subvolume.Folder) {
		one.Subvolume.Folder = path.Join(s.Subvolume.Folder, m.Name)
	}
	return one
}

// inside gives the place below a directory.
func inside(p Place, name string) Place {
	switch p := p.(type) {
	case Local:
		return Local{path.Join(p.Path, name)}
	case Machine:
		return Machine{p.Target, path.Join(p.Path, name)}
	}
	return p
}

// only leaves out the settings that are for another engine, which other members may have.
func (s *Spec) only(e Engine) {
	if e == Rsync {
		s.Subvolume = Default().Subvolume
		s.Reach.Compress, s.Reach.Channels = Default().Reach.Compress, Default().Reach.Channels
		s.KeepSnapshots = retention.Policy{}
		return
	}
	if e == Btrfs {
		s.Copy = Default().Copy
	}
}

// BuildSet is Build for a job with several sources.
func (s *Spec) BuildSet(ctx context.Context, m *Machines, e Environment) (set.Set, error) {
	b := builder{s, m, e}
	made := set.Set{Source: s.SourceName(), Naming: b.naming(), Volatile: s.Recursive, Settings: b.settings()}
	members, covered, err := b.members(ctx)
	if err != nil {
		return made, err
	}
	var c Complaints
	engines := make(map[Engine]bool)
	for i, member := range members {
		one := s.member(member)
		built, use, err := one.buildAs(ctx, m, e, true)
		if err != nil {
			return made, err
		}
		engines[use] = true
		built.Covered, built.NoSnapshot, built.NoTransfer = covered[i], s.Subvolume.NoSnapshot, s.Subvolume.NoTransfer
		made.Members = append(made.Members, set.Member{Name: cmp.Or(member.Name, "."), Job: built, Inside: use == Rsync && s.CopyInside})
	}
	if !engines[Rsync] && !engines[Mirror] && !s.Recursive {
		c = append(c, s.checkForBtrfs()...)
	}
	for i, p := range s.Destinations {
		d := set.Destination{Name: engine.PlaceName(p.String()), Absent: s.Absent(p)}
		_, isStore := p.(Store)
		switch {
		case d.Absent != "":
		case isStore:
			joinAt(i, made.Members, !s.Recursive)
		case !s.Recursive:
			d.Folder = set.NewFolder(m.At(p))
		}
		made.Destinations = append(made.Destinations, d)
	}
	return made, c.Err()
}

// joinAt tells all members of each other at a destination that is a store; isSet as set of offsite.Join.
func joinAt(destination int, members []set.Member, isSet bool) {
	var all []*offsite.Destination
	for _, m := range members {
		all = append(all, m.Destinations[destination].(*offsite.Destination))
	}
	offsite.Join(all, isSet)
}

// SourceName names the source, or all of several, in messages.
func (s *Spec) SourceName() string {
	if s.Recursive || len(s.Members) == 0 {
		return engine.PlaceName(s.Source.String())
	}
	var all []string
	for _, m := range s.Members {
		all = append(all, m.Name+"="+engine.PlaceName(m.Source.String()))
	}
	return strings.Join(all, " ")
}

// members gives those of the job, and of each the paths in it that need not be in its backups.
func (b *builder) members(ctx context.Context) ([]Member, [][]string, error) {
	if b.Recursive {
		return b.below(ctx)
	}
	covered := make([][]string, len(b.Members))
	for i, m := range b.Members {
		for _, other := range b.Members {
			if rel := relative(m.Source, other.Source); rel != "" {
				covered[i] = append(covered[i], rel)
			}
		}
	}
	return b.Members, covered, nil
}

// relative gives the path of a place from one above it, else "".
func relative(above, p Place) string {
	rel, ok := strings.CutPrefix(p.String(), strings.TrimSuffix(above.String(), "/")+"/")
	if !ok || rel == "" {
		return ""
	}
	return rel
}

// below finds the subvolumes of a recursive job.
func (b *builder) below(ctx context.Context) (members []Member, covered [][]string, err error) {
	h, top := b.At(b.Source)
	found, err := volume.Below(ctx, h, top, b.Subvolume.Folder, b.excludes)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, at := range found.Found {
		members = append(members, Member{at, inside(b.Source, at)})
		covered = append(covered, found.Nested[at])
		names = append(names, at)
	}
	name := b.SourceName()
	b.Log.Info(fmt.Sprintf("%s: %d subvolumes, itself included; skipped: %d read-only, %d excluded", name, len(members), found.ReadOnly, found.Excluded))
	if len(found.Hidden) > 0 {
		b.Log.Warn(fmt.Sprintf("%s: not in its backups, since something else is mounted there: %s", name, engine.Few(found.Hidden)))
	}
	if len(found.Dated) > 0 {
		b.Log.Warn(fmt.Sprintf("%s: not in its backups, since their folders would look like backups: %s", name, engine.Few(found.Dated)))
	}
	if !b.DryRun {
		gone, err := b.settings().State.Members(ctx, name, names)
		if err != nil {
			b.Log.Debug(fmt.Sprintf("%s: its subvolumes cannot be remembered: %v", name, err))
		}
		if len(gone) > 0 {
			b.Log.Warn(fmt.Sprintf("%s: no subvolumes any more, or excluded: %s; their backups stay until somebody deletes them", name, engine.Few(gone)))
		}
	}
	return members, covered, nil
}

// excludes tells that a subvolume is to be left out, with those below it. A pattern with a leading slash is for the path from the
// source, any other for the end of a path.
func (b *builder) excludes(at string) bool {
	return slices.ContainsFunc(b.Copy.Filters, func(f Filter) bool { return excludes(f.Value, at) })
}

func excludes(pattern, at string) bool {
	pattern = strings.TrimSuffix(pattern, "/")
	names := strings.Split(at, "/")
	depth := strings.Count(strings.Trim(pattern, "/"), "/") + 1
	if depth > len(names) {
		return false
	}
	if strings.HasPrefix(pattern, "/") {
		matches, _ := path.Match(pattern[1:], strings.Join(names[:depth], "/")) // the pattern was checked
		return matches
	}
	matches, _ := path.Match(pattern, strings.Join(names[len(names)-depth:], "/"))
	return matches
}
