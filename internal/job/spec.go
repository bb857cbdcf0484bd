// Package job holds a backup job as a value: a Spec says what a user wants, Check tells all that is wrong with it, and Build
// makes the parts that run. No other package knows which kinds of source and destination there are.
//
// A Spec is plain data, whoever makes it: a setting that was not given has the value that Default gives it. Places are read here,
// too (ParsePlace).
package job

import (
	"maps"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/retention"

	"golang.org/x/time/rate"
)

// A Spec is what a user wants.
type Spec struct {
	Source       Place
	Members      []Member // several sources, in place of one, whose backups belong together
	Recursive    bool     // the subvolumes below the source are sources, too
	CopyInside   bool     // members that are copied are copied as soon as the snapshots of the others were taken
	Destinations []Place
	Engine       Engine

	Prefix        string           // of the names of snapshots and backups
	Scheme        engine.Scheme    // of these names
	Compat        string           // the rule that policies are taken under, see retention.Policy.As
	KeepSnapshots retention.Policy // at the source
	KeepBackups   retention.Policy // at each destination

	// Shared names settings of several jobs, which need not be of use for this one.
	Shared []string

	// To has what differs at single destinations, by their names.
	To map[string]To

	NewDestination bool // begin anew where the backups of a destination that was used are gone
	SameFilesystem bool // destinations may lie on the filesystem of the source
	RateLimit      rate.Limit
	DryRun         bool
	NoWait         bool // fail at a lock that is held

	Subvolume Subvolume
	Copy      Copy
	Stores    Stores
	Reach     Reach
}

// To is what differs at one destination. What is zero is as at the others.
type To struct {
	KeepBackups retention.Policy
	RateLimit   rate.Limit
	MountPoint  string
	Stores      Stores
	Absent      string // why it is not served in this run; "" if it is
}

// Absent tells why a destination is not served in this run; "" if it is.
func (s *Spec) Absent(p Place) string { return s.To[p.String()].Absent }

// LeaveOut lets a destination be absent.
func (s *Spec) LeaveOut(p Place, why string) {
	all := maps.Clone(s.To)
	if all == nil {
		all = make(map[string]To)
	}
	to := all[p.String()]
	to.Absent = why
	all[p.String()], s.To = to, all
}

// An Engine is a way to back up.
type Engine string

// The engines. Automatic is Btrfs for subvolumes, and Rsync for the rest.
const (
	Automatic Engine = "auto"
	Btrfs     Engine = "btrfs"
	Rsync     Engine = "rsync"
	Mirror    Engine = "mirror" // directories that are copies of snapshots
)

// A Receiver is what makes subvolumes of send streams.
type Receiver string

// The receivers. Whatever is received, AutoReceiver is Native.
const (
	AutoReceiver Receiver = "auto"
	Native       Receiver = "native"
	Stock        Receiver = "stock" // the program btrfs receive, which trusts streams
)

// Subvolume has the settings for sources of which snapshots are taken.
type Subvolume struct {
	Folder        string // of the snapshots; relative to the source, unless it is absolute
	Relay         bool   // the source is a folder of backups, which are sent on
	NoSnapshot    bool
	OnlyChanged   bool // take a snapshot only if something changed since the newest
	Manifest      bool // write down what each backup holds
	NoTransfer    bool
	NoIncremental bool
	LockedDests   bool // add the destinations that the ledger has unfinished transfers to
	RemoveLocks   bool // forget what the ledger says of the destinations
	CleanPartial  bool // delete what an interrupted btrfs receive left under a final name
	Sync          bool // wait until deleted subvolumes are off the disk
	ConvertRW     bool // make subvolumes writable to delete them
	SkipChecks    bool // do not check that source and destinations are on btrfs
	Receiver      Receiver
	Verbose       bool // log what btrfs tells
}

// Copy has the settings for sources that are copied by rsync.
type Copy struct {
	Options    string        // of rsync in place of the usual ones, quoted as for a shell
	Filters    []Filter      // the first that matches a name counts
	MultiFS    bool          // also copy filesystems that are mounted in the source
	Marker     string        // a file in the source without which that is refused
	MaxDelete  int           // percent of the files that may be gone
	MountPoint string        // that destinations must lie on
	Dedup      *bool         // nil: where files are linked
	FullEvery  time.Duration // how often a mirror is compared with its snapshot as a whole; 0 is 30 days
	// StallTimeout is how long rsync may make no progress; 0 for ever.
	StallTimeout time.Duration
	Tunnel       string // [USER@]HOST[:PORT], through which daemons are reached by SSH
	// Frozen tells that nothing changes in the source, so that a snapshot of it can be the backup.
	Frozen bool
	// Incomplete is a message about files that are missing in the source; "" if none are.
	Incomplete string
}

// A Filter leaves files out of a copy, or includes them.
type Filter struct {
	Rule  string // exclude, exclude-from, include, skip or skip-dir
	Value string // a pattern, or a name
}

// Reach tells how other machines are reached. The zero value will do where nothing is transferred.
type Reach struct {
	Options      []string // KEY=VALUE as for ssh -o
	Program      string   // an ssh in place of the one built in; "": as ssh's configuration says
	Sudo         bool
	Command      string // this program there
	Agent        string // auto, or installed: none is brought; "" is auto
	Agents       string // the directory of the programs for other CPUs; "" is bring.DefaultAgents
	Channels     int    // SSH sessions for each transfer
	Compress     string // auto, zstd or none; "" is auto
	ResumeWindow time.Duration
}

const (
	defaultCommand  = "btrfs-backup"
	defaultChannels = 4
	defaultDelete   = 50
	defaultStall    = 15 * time.Minute
	defaultFull     = 30 * 24 * time.Hour
	autoCompress    = "auto"
	autoAgent       = "auto"
)

// Default gives a Spec without places, in which all settings are as if they were not given.
func Default() Spec {
	return Spec{
		Engine:    Automatic,
		Subvolume: Subvolume{Folder: host.SnapshotFolder, Receiver: AutoReceiver},
		Copy:      Copy{MaxDelete: defaultDelete, StallTimeout: defaultStall},
		Reach: Reach{Command: defaultCommand, Agent: autoAgent, Channels: defaultChannels, Compress: autoCompress,
			ResumeWindow: time.Hour},
	}
}
