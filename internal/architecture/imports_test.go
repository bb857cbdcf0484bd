// Package architecture keeps the rules of how the packages of this module depend on each other.
package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/btrfs-backup/btrfs-backup"
	root   = "../.."
)

var (
	leaves = []string{"btrfs", "btrfs/exclusive", "btrfs/receive", "btrfs/reflink", "btrfs/sendstream", "internal/failpoint", "internal/hint", "internal/logfile", "internal/manifest", "internal/progress", "lock", "retention", "transport", "transport/ssh", "transport/wire"}
	stores = append([]string{"internal/attributes", "internal/changes", "internal/dedup", "internal/files", "internal/heal", "internal/object", "internal/past", "internal/relink", "internal/replace", "internal/seal", "internal/store", "internal/store/pack", "internal/tree", "internal/tree/received", "internal/tree/state", "internal/tree/walk"}, rooms...)
	rooms  = []string{"internal/tree/follow", "internal/tree/grow", "internal/tree/index", "internal/tree/space", "internal/tree/survey", "internal/tree/verify"}
	hands  = []string{"internal/handoff", "internal/rsh"}
	hosts  = []string{"internal/host", "internal/host/agent", "internal/host/bring", "internal/host/local", "internal/host/loose", "internal/host/protocol", "internal/host/records", "internal/host/serve"}
	pure   = []string{"internal/engine/copies", "internal/engine/kin", "internal/engine/plan"}
	kinds  = []string{"internal/mirror", "internal/offsite", "internal/sink", "internal/volume"}
	around = []string{"internal/disk", "internal/due", "internal/hook", "internal/notify", "internal/online", "internal/power"} // what is around a job
)

// A rule is kept by every package but those that are exempt.
type rule struct {
	reason   string
	packages []string // none: all
	exempt   []string
	breaks   func(file) string // what of the file breaks the rule
}

var rules = []rule{
	{
		reason:   "a leaf can be understood, tested and used without the application",
		packages: leaves,
		breaks:   importing(inModule),
		exempt:   []string{"btrfs/exclusive", "btrfs/receive", "transport/ssh"},
	},
	{
		reason:   "what subvolumes share is seen by the ioctls of btrfs, and does not depend on why it is asked",
		packages: []string{"btrfs/exclusive"},
		breaks:   importing(beside([]string{"btrfs"})),
	},
	{
		reason:   "what a stream makes depends on the stream, and not on who sends it or why",
		packages: []string{"btrfs/receive"},
		breaks:   importing(beside([]string{"btrfs", "btrfs/reflink", "btrfs/sendstream"})),
	},
	{
		reason:   "a machine is reached by SSH with what runs programs here, and no more",
		packages: []string{"transport/ssh"},
		breaks:   importing(beside([]string{"transport"})),
	},
	{
		reason:   "retention is pure: a decision to delete depends on its arguments alone",
		packages: []string{"retention"},
		breaks:   either(importing(impure), using("time.Now", "time.Since", "time.Until")),
	},
	{
		reason:   "whether a job is due depends on dates alone, so that a year of it can be simulated",
		packages: []string{"internal/due"},
		breaks: either(importing(func(p string) bool {
			return impure(p) && p != module+"/internal/hint" && p != module+"/retention"
		}), using("time.Now", "time.Since", "time.Until")),
	},
	{
		reason:   "what a date means depends on the time that it is said to be",
		packages: []string{"internal/when"},
		breaks: either(importing(func(p string) bool { return impure(p) && p != module+"/internal/hint" }),
			using("time.Now", "time.Since", "time.Until")),
	},
	{
		reason:   "the engine knows sources and destinations by its interfaces, so that a new kind changes nothing in it",
		packages: []string{"internal/engine"},
		breaks:   importing(isKind),
	},
	{
		reason:   "what is sent and deleted follows from what both sides hold, and the time that is told",
		packages: pure,
		breaks:   either(importing(beside(pure, []string{"btrfs", "lock", "retention"})), using("time.Now", "time.Since", "time.Until")),
	},
	{
		reason:   "a machine is worked on without knowing what for",
		packages: append([]string{"internal/rsh"}, hosts...),
		breaks:   importing(beside(leaves, stores, hands, hosts)),
	},
	{
		reason:   "the contract of a host knows none of them",
		packages: []string{"internal/host"},
		breaks:   importing(beside(leaves, stores)),
	},
	{
		reason:   "the two ends of a connection share what they say to each other, and no more",
		packages: []string{"internal/host/agent"},
		breaks:   importing(beside(leaves, stores, []string{"internal/host", "internal/host/bring", "internal/host/protocol", "internal/rsh"})),
	},
	{
		reason:   "streams are handed over without knowing what they carry",
		packages: []string{"internal/handoff"},
		breaks:   importing(beside(leaves)),
	},
	{
		reason:   "kinds work on any host",
		packages: append([]string{"internal/engine"}, kinds...),
		breaks:   importing(func(p string) bool { return strings.HasPrefix(p, module+"/internal/host/") }),
	},
	{
		reason:   "the program is brought to a machine before anything is known of what it does there",
		packages: []string{"internal/host/bring"},
		breaks:   importing(beside([]string{"internal/hint", "transport"})),
	},
	{
		reason:   "what is stored on a disk does not depend on who stores it",
		packages: stores,
		breaks:   importing(beside(leaves, stores)),
	},
	{
		reason:   "what is done with a tree does not depend on what else is",
		packages: rooms,
		breaks: importing(func(p string) bool {
			return slices.Contains(append(rooms, "internal/tree"), strings.TrimPrefix(p, module+"/"))
		}),
	},
	{
		reason:   "what a stream tells to have changed depends on the stream, and on the two trees that it is about",
		packages: []string{"internal/changes"},
		breaks: either(importing(beside([]string{"btrfs/sendstream", "internal/manifest"})),
			using("os.", "golang.org/x/sys/unix.", "time.Now")),
	},
	{
		reason:   "what there was is looked at without what makes it",
		packages: []string{"internal/versions"},
		breaks: importing(beside(leaves, stores, []string{"internal/engine", "internal/host", "internal/inventory",
			"internal/report", "internal/set"})),
	},
	{
		reason:   "a machine is set up without knowing what a run does there",
		packages: []string{"internal/draft", "internal/schedule"},
		breaks:   importing(beside(leaves, around, []string{"internal/job"})),
	},
	{
		reason:   "what is deleted of what arrived depends on no client, nor on how it came",
		packages: []string{"internal/arrivals"},
		breaks: importing(beside(leaves, []string{"internal/engine", "internal/engine/copies", "internal/engine/kin", "internal/host",
			"internal/tree"})),
	},
	{
		reason:   "kinds can be combined freely because none knows another",
		packages: kinds,
		breaks:   importing(isKind),
	},
	{
		reason: "which kinds there are is known in one place; only subvolumes can be sent back",
		breaks: importing(isKind),
		exempt: []string{"internal/job", "internal/restore", "internal/restore/stored"},
	},
	{
		reason: "a job is plain data, whether a command line makes it or something else",
		breaks: importing(func(p string) bool { return strings.HasPrefix(p, "github.com/spf13/") }),
		exempt: []string{"cmd/btrfs-backup", "internal/arguments", "internal/help"},
	},
	{
		reason:   "a configuration makes jobs and what surrounds them, and runs nothing",
		packages: []string{"internal/config"},
		breaks:   importing(beside(leaves, around, []string{"internal/job"})),
	},
	{
		reason:   "the configuration of another program becomes text: nothing is run or written, whatever it says",
		packages: []string{"internal/takeover"},
		breaks: either(importing(beside(leaves, []string{"internal/job"})), using("os.Create", "os.OpenFile", "os.WriteFile", "os.Mkdir",
			"os.Remove", "os.Rename", module+"/transport.", module+"/btrfs.Create", module+"/btrfs.Delete", module+"/btrfs.Snapshot")),
	},
	{
		reason:   "how often a job is run does not depend on how",
		packages: []string{"internal/round"},
		breaks:   importing(beside(leaves, around, []string{"internal/config", "internal/engine", "internal/job", "internal/report", "internal/standing"})),
	},
	{
		reason:   "what was done is told from the report of the engine alone",
		packages: []string{"internal/report"},
		breaks:   importing(beside(leaves, []string{"internal/engine"})),
	},
	{
		reason:   "what there is can be listed without what runs a backup, and decided on without deleting",
		packages: []string{"internal/inventory"},
		breaks:   importing(beside(leaves, []string{"internal/engine", "internal/engine/kin", "internal/engine/plan", "internal/host", "internal/report", "internal/set", "internal/tree", "internal/tree/space"})),
	},
	{
		reason:   "what is deleted without a run follows from what there is, on any host: nothing that saves is at hand",
		packages: []string{"internal/removal"},
		breaks: importing(beside(leaves, []string{"btrfs/sendstream", "internal/engine", "internal/engine/plan", "internal/host",
			"internal/inventory", "internal/report", "internal/set", "internal/tree", "internal/tree/space", "internal/when"})),
	},
	{
		reason:   "whose a history is is found and recorded without what runs a backup, or deletes",
		packages: []string{"internal/adopt"},
		breaks: importing(beside(leaves, []string{"internal/engine", "internal/engine/copies", "internal/engine/kin", "internal/host",
			"internal/inventory", "internal/report", "internal/tree"})),
	},
	{
		reason:   "files are brought back on any machine, without what makes backups",
		packages: []string{"internal/retrieval"},
		breaks:   importing(beside(leaves, []string{"internal/files", "internal/host", "internal/inventory", "internal/tree"})),
	},
	{
		reason:   "a subvolume is brought back by the parts that made its backup, without what makes backups",
		packages: []string{"internal/restore"},
		breaks: importing(beside(leaves, pure, []string{"internal/engine", "internal/engine/ladder", "internal/host", "internal/inventory",
			"internal/replace", "internal/report", "internal/restore/chain", "internal/stream", "internal/tree", "internal/volume"})),
	},
	{
		reason:   "what a stored stream tells of itself depends on nothing that is there already",
		packages: []string{"internal/restore/chain"},
		breaks:   importing(beside(leaves, []string{"internal/engine", "internal/host", "internal/stream"})),
	},
	{
		reason:   "what comes back from a store comes by the ways of what comes back from elsewhere",
		packages: []string{"internal/restore/stored"},
		breaks: importing(beside(leaves, stores, pure, []string{"internal/engine", "internal/host", "internal/offsite", "internal/report",
			"internal/inventory", "internal/restore", "internal/restore/chain", "internal/restore/partial"})),
	},
	{
		reason:   "what streams make of some files depends on the streams alone",
		packages: []string{"internal/restore/partial"},
		breaks:   either(importing(beside([]string{"btrfs", "btrfs/sendstream"})), using("os.", "golang.org/x/sys/unix.")),
	},
	{
		reason:   "how commands tell of themselves does not depend on what they do",
		packages: []string{"internal/help"},
		breaks:   importing(beside([]string{"internal/manual"})),
	},
	{
		reason:   "what the words of a command line are does not depend on what commands do",
		packages: []string{"internal/arguments"},
		breaks:   importing(beside([]string{"internal/due", "internal/help", "internal/hint", "retention"})),
	},
	{
		reason:   "keys are made and tried without what uses them",
		packages: []string{"internal/keys"},
		breaks:   importing(beside([]string{"internal/hint", "internal/seal"})),
	},
	{
		reason:   "people are asked and told without knowing what about",
		packages: []string{"internal/terminal"},
		breaks:   importing(beside([]string{"internal/logfile", "internal/progress"})),
	},
	{
		reason:   "what heals a backup decides on its machine: here pieces are only brought there",
		packages: []string{"internal/repair"},
		breaks: either(importing(beside(leaves, []string{"internal/engine/copies", "internal/heal", "internal/host", "internal/inventory"})),
			using("os.", "golang.org/x/sys/unix.")),
	},
	{
		reason:   "the state of the machine is nothing of this program",
		packages: []string{"internal/power", "internal/process"},
		breaks:   importing(inModule),
	},
	{
		reason:   "how much is left to others does not depend on what is done",
		packages: []string{"internal/priority"},
		breaks:   importing(beside([]string{"internal/hint"})),
	},
	{
		reason:   "what there is can be asked while nothing is changed: nothing that runs a backup is at hand",
		packages: []string{"internal/standing"},
		breaks:   importing(beside(leaves, []string{"internal/config", "internal/disk", "internal/engine", "internal/job", "internal/report"})),
	},
	{
		reason:   "what there is is shown while nothing is changed: it is judged and decided elsewhere, and nothing that runs a backup is at hand",
		packages: []string{"internal/picture"},
		breaks: importing(beside(leaves, []string{"internal/config", "internal/engine", "internal/inventory", "internal/job", "internal/removal",
			"internal/report", "internal/standing", "internal/underway"})),
	},
	{
		reason:   "what is served is a picture and what runs tell, and whoever asks reaches nothing else",
		packages: []string{"internal/picture/web"},
		breaks:   importing(beside([]string{"internal/hint", "internal/picture", "internal/report", "internal/underway", "lock"})),
	},
	{
		reason:   "what runs around a backup can be used without one",
		packages: []string{"internal/disk", "internal/hook", "internal/online"},
		breaks:   importing(beside(leaves)),
	},
	{
		reason:   "who is told does not depend on what a run is",
		packages: []string{"internal/notify"},
		breaks:   importing(beside(leaves)),
	},
	{
		reason: "the command wires the packages together, and nothing depends on how",
		breaks: importing(func(p string) bool { return strings.HasPrefix(p, module+"/cmd/") }),
	},
	{
		reason: "the program carries no test support",
		breaks: importing(func(p string) bool { return p == module+"/btrfs/btrfstest" || p == "testing" }),
		exempt: []string{"btrfs/btrfstest", "internal/object/objecttest", "transport/sshtest"},
	},
	{
		reason: "whatever runs a program does so without a shell, in its own group, and ends it with its context",
		breaks: using("os/exec.Command", "os.StartProcess", "syscall.ForkExec", "syscall.StartProcess",
			"syscall.Exec", "golang.org/x/sys/unix.Exec"),
		exempt: []string{"transport", "btrfs/btrfstest", "internal/object/objecttest", "transport/sshtest"},
	},
	{
		reason: "the layouts of the kernel's structs are checked in one place",
		breaks: either(importing(func(p string) bool { return strings.HasPrefix(p, "github.com/dennwc/") }),
			using("golang.org/x/sys/unix.SYS_IOCTL", "syscall.SYS_IOCTL", "golang.org/x/sys/unix.Ioctl")),
		exempt: []string{"btrfs", "btrfs/btrfstest", "btrfs/reflink"},
	},
}

func inModule(p string) bool { return strings.HasPrefix(p, module+"/") }
func inStandardLibrary(p string) bool {
	return !inModule(p) && !strings.Contains(strings.Split(p, "/")[0], ".")
}

// beside tells the packages of the module that are in none of the lists.
func beside(lists ...[]string) func(string) bool {
	return func(p string) bool {
		return inModule(p) && !slices.Contains(slices.Concat(lists...), strings.TrimPrefix(p, module+"/"))
	}
}
func isKind(p string) bool { return slices.Contains(kinds, strings.TrimPrefix(p, module+"/")) }
func impure(p string) bool {
	return !inStandardLibrary(p) || slices.Contains([]string{"os", "os/exec", "net", "syscall"}, p)
}

// importing gives the first import that is bad.
func importing(bad func(importPath string) bool) func(file) string {
	return func(f file) string {
		if i := slices.IndexFunc(f.imports, bad); i >= 0 {
			return "imports " + f.imports[i]
		}
		return ""
	}
}

// using gives the first use of a name of another package that begins with one of the given.
func using(starts ...string) func(file) string {
	return func(f file) string {
		for _, use := range f.uses {
			if slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(use, start) }) {
				return "uses " + use
			}
		}
		return ""
	}
}

func either(a, b func(file) string) func(file) string {
	return func(f file) string {
		if broken := a(f); broken != "" {
			return broken
		}
		return b(f)
	}
}

// file is a source file of the program, no test and no tool of its developers.
type file struct {
	path    string
	dir     string   // of its package, from the root of the module
	imports []string // import paths
	uses    []string // names of other packages, with the import paths of these
}

func parse(t *testing.T, name string) file {
	t.Helper()
	syntax, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	f := file{path: name, dir: filepath.ToSlash(filepath.Dir(name))}
	named := make(map[string]string)
	for _, spec := range syntax.Imports {
		importPath, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		f.imports = append(f.imports, importPath)
		named[path.Base(importPath)] = importPath
		if spec.Name != nil {
			named[spec.Name.Name] = importPath
		}
	}
	ast.Inspect(syntax, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && named[x.Name] != "" {
				f.uses = append(f.uses, named[x.Name]+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return f
}

func program(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && slices.Contains([]string{"testdata", ".git", "scripts"}, base) {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			files = append(files, parse(t, relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPackagesDependOnEachOtherAsDesigned(t *testing.T) {
	files := program(t)
	for _, r := range rules {
		for _, f := range files {
			if r.packages != nil && !slices.Contains(r.packages, f.dir) || slices.Contains(r.exempt, f.dir) {
				continue
			}
			if broken := r.breaks(f); broken != "" {
				t.Errorf("%s %s, but %s", f.path, broken, r.reason)
			}
		}
	}
}

func TestTheRulesAreAboutPackagesThatExist(t *testing.T) {
	var dirs []string
	for _, f := range program(t) {
		dirs = append(dirs, f.dir)
	}
	for _, r := range rules {
		for _, dir := range append(slices.Clone(r.packages), r.exempt...) {
			if !slices.Contains(dirs, dir) {
				t.Errorf("there is no package %s any more, of which it was said: %s", dir, r.reason)
			}
		}
		for _, exempt := range r.exempt {
			used := slices.ContainsFunc(program(t), func(f file) bool { return f.dir == exempt && r.breaks(f) != "" })
			if !used {
				t.Errorf("%s needs no exemption from the rule that %s", exempt, r.reason)
			}
		}
	}
}
