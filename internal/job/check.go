package job

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/retention"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// Complaints are all that is wrong with a job.
type Complaints = hint.Complaints

// Check gives all that can be said against the job without looking at its places. A place that is nil was complained about
// when it was read, and is passed over.
func (s *Spec) Check() Complaints {
	var c Complaints
	if !slices.Contains([]Engine{Automatic, Btrfs, Rsync, Mirror}, s.Engine) {
		c.Add("engine", "use auto, btrfs, rsync or mirror", "%s is unknown", s.Engine)
	}
	s.checkReceiver(&c)
	CheckNumber("num-snapshots", s.KeepSnapshots.Last, &c)
	CheckNumber("num-backups", s.KeepBackups.Last, &c)
	backups := []retention.Policy{s.KeepBackups}
	for _, to := range s.To {
		backups = append(backups, to.KeepBackups)
	}
	CheckCompat(s.Compat, s.KeepSnapshots, backups, &c)
	s.checkNames(&c)
	if p, ok := s.Source.(Command); ok {
		c.Add("", "name a subvolume or another directory", "%s: a command cannot be a source", p)
	}
	if p, ok := s.Source.(Store); ok {
		c.Add("", "to get data back: btrfs-backup restore "+p.String(), "%s: a store cannot be a source", p)
	}
	s.Copy.check(&c)
	s.Stores.check(&c)
	for _, name := range slices.Sorted(maps.Keys(s.To)) {
		to := s.To[name].Stores
		to.check(&c)
	}
	s.checkLock(&c)
	c = append(c, s.Reach.Check()...)
	if s.HasMembers() {
		return append(c, s.checkMembers()...)
	}
	s.checkRelay(&c)
	if engine, known := s.engine(); known {
		c = append(c, s.checkFor(engine)...)
	}
	return c
}

// checkLock complains of a lock that protects nothing.
func (s *Spec) checkLock(c *Complaints) {
	isServer := func(p Place) bool { at, ok := p.(Store); return ok && at.URL != "" }
	if s.isGiven(option{"object-lock", s.Stores.Lock != object.Unlocked}) && len(s.Destinations) > 0 && !slices.ContainsFunc(s.Destinations, isServer) {
		c.Add("object-lock", "store on a server: s3://BUCKET/PREFIX; another machine protects backups by `serve --append-only`",
			"none of the destinations can lock anything")
	}
}

func (s *Spec) checkReceiver(c *Complaints) {
	if !slices.Contains([]Receiver{AutoReceiver, Native, Stock}, s.Subvolume.Receiver) {
		c.Add("receiver", "use auto, native or stock", "%s is unknown", s.Subvolume.Receiver)
	}
	if _, remote := s.Source.(Machine); remote && s.Subvolume.Receiver == Stock {
		c.Add("receiver", "leave out --receiver stock", "stock follows wherever a stream leads, but %s is on another machine", s.Source)
	}
}

// checkRelay complains of what is about snapshots, if backups are sent on.
func (s *Spec) checkRelay(c *Complaints) {
	if !s.Subvolume.Relay {
		return
	}
	if s.Engine == Rsync || s.Engine == Mirror {
		c.Add("relay", "leave out --engine", "sends subvolumes on, which rsync does not")
	}
	if len(s.Destinations) == 0 {
		c.Add("", "name where the backups are to be sent on to", "DEST is missing: --relay sends the backups in SOURCE on")
	}
	d := Default()
	for _, o := range []option{
		{"num-snapshots", s.KeepSnapshots.Last != 0},
		{"keep-snapshots", s.KeepSnapshots != (retention.Policy{Last: s.KeepSnapshots.Last})},
	} {
		if s.isGiven(o) {
			c.Add(o.name, "leave it out: whoever makes the backups in SOURCE deletes them", "has no effect with --relay")
		}
	}
	for _, o := range []option{
		{"snapshot-folder", s.Subvolume.Folder != d.Subvolume.Folder}, {"only-changed", s.Subvolume.OnlyChanged},
		{"no-transfer", s.Subvolume.NoTransfer}, {"locked-dests", s.Subvolume.LockedDests},
	} {
		if s.isGiven(o) {
			c.Add(o.name, "leave it out", "is about snapshots of a subvolume, but --relay sends backups on")
		}
	}
}

func (s *Spec) checkNames(c *Complaints) {
	if !s.Scheme.Known() {
		c.Add("name", "use btrbk-long, btrbk-short or btrbk-long-iso", "%s is unknown", s.Scheme)
		return
	}
	if s.naming().Numbered() && s.Prefix == "" {
		c.Add("name", "--snapshot-prefix home makes names such as "+(engine.Naming{Prefix: "home", Scheme: s.Scheme}).Name(time.Unix(0, 0)),
			"needs the name of the subvolume, with which btrbk's names begin")
	}
	const nameMax = 255
	longest := btrfs.Incoming(s.naming().Longest())
	if strings.ContainsAny(s.Prefix, "/\x00") || len(longest) > nameMax || !utf8.ValidString(s.Prefix) {
		c.Add("snapshot-prefix", fmt.Sprintf("use any text without a slash, up to %d bytes", nameMax-len(longest)+len(s.Prefix)),
			"%q cannot begin the name of a snapshot", s.Prefix)
	}
}

func (s *Spec) naming() engine.Naming { return engine.Naming{Prefix: s.Prefix, Scheme: s.Scheme} }

// CheckCompat complains of policies that cannot be taken by a rule.
func CheckCompat(rule string, snapshots retention.Policy, backups []retention.Policy, c *Complaints) {
	if rule != "" && rule != retention.Btrbk {
		c.Add("compat", "use btrbk, or leave it out", "%s is unknown", rule)
		return
	}
	for i, p := range append([]retention.Policy{snapshots}, backups...) {
		if _, err := p.As(rule); err != nil {
			setting := map[bool]string{true: "keep-snapshots", false: "keep-backups"}[i == 0]
			c.Add(setting, "use terms such as within=2d 14d 8w 12m *y", "%s: %w", p, err)
		}
	}
}

// CheckNumber complains of a number of versions to keep that is none.
func CheckNumber(setting string, n int, c *Complaints) {
	if n < 0 {
		c.Add(setting, "use 0 to keep all", "%d is no number of versions to keep", n)
	}
}

func (o *Copy) check(c *Complaints) {
	if o.MaxDelete < 0 || o.MaxDelete > 100 {
		c.Add("max-delete", "use 0 to 100; 100 allows all", "%d is not a percentage", o.MaxDelete)
	}
	if o.FullEvery < 0 {
		c.Add("full-every", "use a time such as 30d", "%s is not a time to wait", o.FullEvery)
	}
	if o.StallTimeout < 0 {
		c.Add("stall-timeout", "use a time such as 15m; 0 waits for ever", "%s is not a time to wait", o.StallTimeout)
	}
	if filepath.IsAbs(o.Marker) {
		c.Add("marker", "name a file relative to SOURCE", "%s is absolute", o.Marker)
	}
	for _, f := range o.Filters {
		if filterRules[f.Rule] == nil {
			c.Add("", "use exclude, exclude-from, include, skip or skip-dir", "%s %s: there is no such filter", f.Rule, f.Value)
		}
	}
	if _, err := options.Split(o.Options); err != nil {
		c.Add("rsync-options", hint.Of(err), "%q: %w", o.Options, err)
	}
	if o.Tunnel != "" {
		if _, err := parseTarget(o.Tunnel, o.Tunnel); err != nil {
			*c = append(*c, hint.Complaint{Setting: "tunnel", Err: err})
		}
	}
}

// Check gives all that can be said against the way in which machines are to be reached.
func (r *Reach) Check() Complaints {
	var c Complaints
	if _, err := r.compression(); err != nil {
		c.Add("compress", "use auto, zstd or none", "%s is unknown", r.Compress)
	}
	if !slices.Contains([]string{"", autoAgent, "installed"}, r.Agent) {
		c.Add("agent", "use auto or installed", "%s is unknown", r.Agent)
	}
	if r.Channels < 0 || r.Channels > 64 {
		c.Add("channels", "use 1 to 64", "%d is out of range", r.Channels)
	}
	return c
}

func (r *Reach) compression() (wire.Compression, error) {
	if r.Compress == "" {
		return wire.Auto, nil
	}
	return wire.ParseCompression(r.Compress)
}

// engine gives the engine, if it does not depend on what the source is found to be.
func (s *Spec) engine() (e Engine, known bool) {
	_, isDaemon := s.Source.(Daemon)
	switch {
	case s.Engine == Rsync || s.Engine == Automatic && isDaemon:
		return Rsync, true
	case s.Engine == Mirror:
		return Mirror, true
	case s.Engine == Btrfs || s.Subvolume.Relay || s.Engine == Automatic && s.Subvolume.SkipChecks:
		return Btrfs, true
	}
	return "", false
}

// checkFor gives what can be said against backing up by an engine.
func (s *Spec) checkFor(e Engine) Complaints {
	var c Complaints
	s.checkFullEvery(e, &c)
	switch e {
	case Rsync:
		return append(c, s.checkForRsync()...)
	case Mirror:
		return append(c, s.checkForMirror()...)
	}
	return append(c, s.checkForBtrfs()...)
}

func (s *Spec) checkFullEvery(e Engine, c *Complaints) {
	if o := (option{"full-every", s.Copy.FullEvery != 0}); e != Mirror && s.isGiven(o) {
		c.Add(o.name, "leave it out, or use --engine mirror", "is about mirrors of snapshots")
	}
}

// checkForMirror complains of what tells rsync what to copy: the kernel does not know of it.
func (s *Spec) checkForMirror() Complaints {
	var c Complaints
	const forward = "leave it out, or use --engine rsync, which looks at all files each time"
	for _, o := range s.onlyRsync() {
		useful := slices.Contains([]string{"marker", "max-delete", "mount-point", "stall-timeout", "dedup", "no-dedup"}, o.name)
		if s.isGiven(o) && !useful {
			c.Add(o.name, forward, "has no place in a mirror, which holds all of a snapshot")
		}
	}
	if d, ok := s.Source.(Daemon); ok {
		c.Add("", "--engine rsync copies from a daemon", "%s: has no snapshots, of which a mirror is made", d)
	}
	s.checkMirrorPlaces(&c)
	return c
}

func (s *Spec) checkMirrorPlaces(c *Complaints) {
	for _, p := range s.Destinations {
		switch p.(type) {
		case Command, Store, Daemon:
			c.Add("", "name a folder, on this machine or another", "%s: cannot hold a mirror", p)
		}
	}
}

func (s *Spec) checkForBtrfs() Complaints {
	var c Complaints
	const hint = "--engine rsync copies the subvolume as it stands, without a snapshot"
	for _, o := range s.onlyRsync() {
		if s.isGiven(o) {
			c.Add(o.name, hint, "is for copies by rsync, but the source is a btrfs subvolume")
		}
	}
	for _, p := range append([]Place{s.Source}, s.Destinations...) {
		if d, ok := p.(Daemon); ok {
			c.Add("", hint, "%s: an rsync daemon is for copies by rsync, but the source is a btrfs subvolume", d)
		}
	}
	return c
}

func (s *Spec) checkForRsync() Complaints {
	var c Complaints
	if len(s.Destinations) == 0 && s.Source != nil {
		c.Add("", "name a folder for the backups",
			"DEST is missing: %s is copied by rsync, without snapshots", s.Source)
	}
	for _, o := range []option{
		{"no-snapshot", s.Subvolume.NoSnapshot}, {"no-transfer", s.Subvolume.NoTransfer}, {"locked-dests", s.Subvolume.LockedDests},
	} {
		if s.isGiven(o) {
			c.Add(o.name, "leave it out", "is about snapshots, but the source is copied by rsync, without snapshots")
		}
	}
	isDaemon := func(p Place) bool { _, ok := p.(Daemon); return ok }
	if s.Copy.Tunnel != "" && !isDaemon(s.Source) && !slices.ContainsFunc(s.Destinations, isDaemon) {
		c.Add("tunnel", "name it as HOST::MODULE", "is for an rsync daemon, but neither SOURCE nor DEST is one")
	}
	for _, p := range s.Destinations {
		switch p := p.(type) {
		case Command:
			c.Add("", "copy to a folder on btrfs first, and back that up",
				"%s: a command takes send streams, which only btrfs subvolumes have", p)
		case Store:
			c.Add("", "copy to a folder on btrfs first, and send the copies on from there: --relay",
				"%s: a store takes send streams, which only btrfs subvolumes have", p)
		}
	}
	return c
}

// An option of the command line was given if its setting is not the default.
type option struct {
	name  string
	given bool
}

// isGiven tells that an option was given for this job.
func (s *Spec) isGiven(o option) bool { return o.given && !slices.Contains(s.Shared, o.name) }

// onlyRsync are the settings for sources that are copied by rsync.
func (s *Spec) onlyRsync() []option {
	o := s.Copy
	toFolder := slices.ContainsFunc(s.Destinations, func(p Place) bool { to, ok := p.(Store); return ok && to.URL == "" })
	all := []option{
		{"multi-fs", o.MultiFS}, {"rsync-options", o.Options != ""}, {"marker", o.Marker != ""},
		{"max-delete", o.MaxDelete != defaultDelete}, {"mount-point", o.MountPoint != "" && !toFolder}, {"stall-timeout", o.StallTimeout != defaultStall},
		{"dedup", o.Dedup != nil && *o.Dedup}, {"no-dedup", o.Dedup != nil && !*o.Dedup}, {"tunnel", o.Tunnel != ""},
	}
	for _, rule := range slices.Sorted(maps.Keys(filterRules)) {
		all = append(all, option{rule, slices.ContainsFunc(o.Filters, func(f Filter) bool { return f.Rule == rule })})
	}
	return all
}

// idleForRsync are the settings that are of no consequence for sources that are copied by rsync.
func (s *Spec) idleForRsync() []option {
	o, d := s.Subvolume, Default()
	return []option{
		{"num-snapshots", s.KeepSnapshots.Last != 0},
		{"keep-snapshots", s.KeepSnapshots != (retention.Policy{Last: s.KeepSnapshots.Last})}, {"snapshot-folder", o.Folder != d.Subvolume.Folder},
		{"only-changed", o.OnlyChanged}, {"manifest", o.Manifest}, {"remove-locks", o.RemoveLocks}, {"clean-partial", o.CleanPartial}, {"sync", o.Sync}, {"convert-rw", o.ConvertRW},
		{"compress", s.Reach.Compress != d.Reach.Compress}, {"channels", s.Reach.Channels != d.Reach.Channels},
	}
}
