package takeover

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// SystemBackup is a command line of rsync-system-backup.
type SystemBackup struct {
	Backup, Snapshot, Rotate bool
	Mount, Crypto, Tunnel    string
	IONice                   string
	Exclude                  []string
	MultiFS, DryRun          bool
	NoSudo, Force            bool
	DisableNotifications     bool
	Verbose, Quiet           int

	Args []string // [SOURCE] DESTINATION
	// Rotation are the configurations of rotate-backups, in the order in which they count.
	Rotation []File
}

// File is a file that was read.
type File struct {
	Name    string
	Content []byte
}

// TakeOver makes a job of the command line.
func (c SystemBackup) TakeOver() (Result, error) {
	s := &systemBackup{&document{program: "rsync-system-backup", name: strings.Join(append([]string{"rsync-system-backup"}, c.Args...), " ")}, c}
	source, destination := "/", ""
	switch len(c.Args) {
	case 1:
		destination = c.Args[0]
	case 2:
		source, destination = c.Args[0], c.Args[1]
	default:
		s.complaints.Add("", "rsync-system-backup [OPTIONS] [SOURCE] DESTINATION", "%d places are given, not one or two", len(c.Args))
		return s.result()
	}
	if isAction := c.Snapshot || c.Rotate; isAction && !c.Backup {
		s.remark(word("--snapshot", "--rotate"), left("nothing is copied, so there is no job: see btrfs-backup freeze, on the machine of an rsync daemon"))
		return s.result()
	}
	p := s.place(destination)
	t := s.table("job", s.jobName(path.Base(source), "system"))
	t.set("source", s.absolute(source), word(source))
	t.set("destination", p.folder, word(destination))
	if !p.daemon {
		t.note("before the first run: btrfs-backup index %s", quoted(p.folder))
		t.note("then backups share space with those of rsync-system-backup, which are neither counted nor deleted")
	}
	t.note("by rsync, also if the source is a btrfs subvolume")
	t.set("engine", "rsync")
	t.note("as often as your timer or cron starts rsync-system-backup")
	t.set("every", "daily")
	if !c.DisableNotifications {
		t.note("desktop notices are for all jobs together: [notify], desktop = true, on = [\"start\", \"success\", \"failure\"]")
	}
	s.setActions(t, p)
	s.setCopy(t, source)
	s.setDisk(p)
	s.remarkRest()
	return s.result()
}

// systemBackup is the taking over of a command line.
type systemBackup struct {
	*document
	given SystemBackup
}

func word(texts ...string) origin { return origin{text: strings.Join(texts, " ")} }

// systemPlace is the folder that holds the dated backups.
type systemPlace struct {
	folder string
	host   string // reached by SSH; "": this machine, or a daemon's
	daemon bool
}

var (
	daemonPlace = regexp.MustCompile(`^(rsync://.+|[^/:]+::.+)$`)
	sshPlace    = regexp.MustCompile(`^([^/:]+):(.+)$`)
)

// place gives the folder of a destination: that of its mirror, which is beside the dated backups.
func (s *systemBackup) place(text string) systemPlace {
	if daemonPlace.MatchString(text) {
		return systemPlace{folder: text, daemon: true}
	}
	p := systemPlace{}
	dir := text
	if found := sshPlace.FindStringSubmatch(text); found != nil {
		p.host, dir = found[1], found[2]
	}
	p.folder = path.Dir(s.absolute(dir))
	if p.folder == "/" {
		s.complaints.Add("", "name a directory in a directory of backups, such as /mnt/disk/system/latest",
			"%s: the dated backups would lie in /", quoted(text))
	}
	if p.host != "" {
		p.folder = p.host + ":" + p.folder
	}
	return p
}

func (s *systemBackup) absolute(dir string) string {
	if !path.IsAbs(dir) && !sshPlace.MatchString(dir) && !daemonPlace.MatchString(dir) {
		s.complaints.Add("", "nobody knows where it was meant to be started", "%s is no absolute path", quoted(dir))
	}
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return dir
}

// setActions tells what is kept.
func (s *systemBackup) setActions(t *table, p systemPlace) {
	c := s.given
	all := c.Backup == c.Snapshot && c.Snapshot == c.Rotate
	if p.daemon {
		t.note("on the machine of the daemon, in its module: post-xfer exec = btrfs-backup freeze --keep-backups %s", quoted(s.rotation(t, p)))
		return
	}
	if !all && !c.Snapshot {
		s.remark(word("--backup"), left("each run makes a dated backup; a mirror alone is rsync's own work"))
	}
	if !all && !c.Rotate {
		t.note("NOTHING IS EVER DELETED, as without --rotate: keep-backups = \"24h 7d 4w *m\" would delete")
		return
	}
	t.set("keep-backups", s.rotation(t, p))
}

// notCopied are the directories that rsync-system-backup always leaves out, but for those that this program leaves out of / itself.
var notCopied = strings.Fields("/home/*/.cache/ /var/cache/ /var/tmp/")

// setCopy tells what is copied.
func (s *systemBackup) setCopy(t *table, source string) {
	var of []origin
	exclude := slices.Clone(s.given.Exclude)
	for _, pattern := range exclude {
		of = append(of, word("--exclude="+pattern))
	}
	for _, dir := range notCopied {
		if below, isIn := strings.CutPrefix(dir, strings.TrimSuffix(source, "/")+"/"); isIn && below != "" {
			exclude = append(exclude, "/"+below)
			of = append(of, word("always left out: "+dir))
		}
	}
	t.set("exclude", exclude, of...)
	if s.given.MultiFS {
		t.set("multi-fs", true, word("--multi-fs"))
	}
	if s.given.Tunnel != "" {
		t.set("tunnel", s.given.Tunnel, word("--tunnel="+s.given.Tunnel))
	}
	if class := strings.ToLower(strings.TrimSpace(s.given.IONice)); class != "" {
		if !slices.Contains([]string{"idle", "best-effort", "realtime"}, class) {
			s.complaints.Add("", "use idle, best-effort or realtime", "--ionice=%s: there is no such class", class)
		}
		t.set("ionice", class, word("--ionice="+s.given.IONice))
	}
}

// setDisk tells which disk is opened and closed.
func (s *systemBackup) setDisk(p systemPlace) {
	c := s.given
	var of []origin
	if c.Mount != "" {
		of = append(of, word("--mount="+c.Mount))
	}
	if c.Crypto != "" {
		of = append(of, word("--crypto="+c.Crypto))
	}
	switch {
	case len(of) == 0:
	case p.host != "" || p.daemon:
		for _, o := range of {
			s.remark(o, left("a disk of another machine is not opened from here"))
		}
	case c.Mount == "":
		s.remark(of[0], left("a disk is unlocked to be mounted: add [disk.NAME] with mount = DIR and luks = "+quoted(c.Crypto)))
	default:
		t := s.table("disk", s.jobName(path.Base(c.Mount), "disk"))
		t.set("mount", s.absolute(c.Mount), of...)
		t.set("luks", c.Crypto)
		if c.Crypto != "" {
			t.note("a disk that is not there was no failure")
			t.set("when-absent", "skip")
		}
	}
}

// remarkRest tells what becomes of options that are no part of a job.
func (s *systemBackup) remarkRest() {
	c := s.given
	for _, o := range []struct {
		name  string
		given bool
		verdict
	}{
		{"--no-sudo", c.NoSudo, idle("sudo is never used on this machine")},
		{"--dry-run", c.DryRun, idle("btrfs-backup run --dry-run")},
		{"--force", c.Force, idle("it runs on Linux alone")},
		{"--disable-notifications", c.DisableNotifications, idle("there are none unless [notify] asks for them")},
		{"--verbose", c.Verbose > 0, idle("-v debug tells more")},
		{"--quiet", c.Quiet > 0, idle("-q tells less")},
	} {
		if o.given {
			s.remark(word(o.name), o.verdict)
		}
	}
}
