package job

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/sink"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// A Place is where a source or a destination lies: a Local, a Machine, a Daemon, a Command or a Store.
type Place interface {
	// String gives a text that ParsePlace understands so.
	String() string
	isPlace()
}

// Local is a directory of this machine.
type Local struct{ Path string } // absolute

// Machine is a directory of another machine.
type Machine struct {
	Target ssh.Target
	Path   string // absolute
}

// Daemon is a directory of an rsync daemon.
type Daemon struct{ URL string } // rsync://[USER@]HOST[:PORT]/MODULE[/DIR]

// Command takes send streams.
type Command struct{ Line string } // for a shell

func (Local) isPlace()   {}
func (Machine) isPlace() {}
func (Daemon) isPlace()  {}
func (Command) isPlace() {}

func (p Local) String() string   { return p.Path }
func (p Machine) String() string { return sshScheme + p.Target.String() + p.Path }
func (p Daemon) String() string  { return p.URL }
func (p Command) String() string { return sink.Scheme + p.Line }

const (
	sshScheme   = "ssh://"
	rsyncScheme = "rsync://"
)

// ParsePlace understands
//
//	PATH
//	ssh://[USER@]HOST[:PORT]/PATH
//	[USER@]HOST:/PATH
//	shell://COMMAND
//	rsync://[USER@]HOST[:PORT]/MODULE[/DIR]
//	[USER@]HOST::MODULE[/DIR]
//	s3://[ENDPOINT/]BUCKET[/PREFIX]
//	store:/FOLDER
//	store+ssh://[USER@]HOST[:PORT]/FOLDER
//
// where HOST may be an IPv6 address in brackets. No character of a path or command has another meaning. Every error has a hint.
func ParsePlace(text string) (Place, error) {
	switch {
	case text == "":
		return nil, hint.New(errors.New("an argument is empty, and so names no place"), "is a variable unset? . is the current directory")
	case strings.HasPrefix(text, sink.Scheme):
		command := strings.TrimPrefix(text, sink.Scheme)
		if strings.TrimSpace(command) == "" {
			return nil, badPlace(text, "the command is missing", "for example 'shell://cat >/mnt/disk/$BTRFS_BACKUP_SNAPSHOT'")
		}
		return Command{command}, nil
	case strings.HasPrefix(text, storeScheme), strings.HasPrefix(text, storeSSHScheme), strings.HasPrefix(text, object.Scheme):
		return parseStore(text)
	case strings.HasPrefix(text, sshScheme):
		machine, rest, _ := strings.Cut(strings.TrimPrefix(text, sshScheme), "/")
		return machineAt(text, machine, rest)
	case strings.HasPrefix(text, rsyncScheme):
		machine, module, _ := strings.Cut(strings.TrimPrefix(text, rsyncScheme), "/")
		return daemonAt(text, machine, module)
	}
	if err := misspelt(text); err != nil {
		return nil, err
	}
	if machine, remote, ok := cutMachine(text); ok {
		if module, ok := strings.CutPrefix(remote, ":"); ok {
			return daemonAt(text, machine, module)
		}
		return parseMachinePath(text, machine, remote)
	}
	abs, err := filepath.Abs(text)
	if err != nil {
		return nil, badPlace(text, "the working directory is gone: "+err.Error(), "name it by an absolute path")
	}
	return Local{abs}, nil
}

// misspelt refuses what would be the path of a machine of the name of a scheme.
func misspelt(text string) error {
	name, rest, _ := strings.Cut(text, ":")
	scheme, below := strings.ToLower(name), strings.TrimLeft(rest, "/")
	switch {
	case !strings.HasPrefix(rest, "/"):
		return nil
	case scheme == "http", scheme == "https":
		return badPlace(text, "what is on a web server is no place", "a bucket there is "+object.Scheme+below)
	case scheme+"://" == object.Scheme, scheme+"://" == storeSSHScheme:
		return badPlace(text, "this looks like a store, and is none", "use "+scheme+"://"+below)
	case name != scheme && slices.Contains([]string{sink.Scheme, sshScheme, rsyncScheme}, scheme+"://"), name != scheme && scheme+":" == storeScheme:
		return badPlace(text, name+" is in capital letters", "use "+scheme+":"+rest)
	}
	return nil
}

// ParsePlaces understands several places, and complains of all that it does not understand.
func ParsePlaces(texts []string) ([]Place, Complaints) {
	places := make([]Place, len(texts))
	var c Complaints
	for i, text := range texts {
		p, err := ParsePlace(text)
		if err != nil {
			c = append(c, hint.Complaint{Err: err})
		}
		places[i] = p
	}
	return places, c
}

// ParseFolders is ParsePlaces for places that are looked into as directories: every one is a Local or a Machine.
func ParseFolders(texts []string) ([]Place, Complaints) {
	places, c := ParseHoldings(texts)
	for _, p := range places {
		if s, ok := p.(Store); ok {
			c.Add("", fmt.Sprintf("`btrfs-backup list %s` shows what there is; `btrfs-backup restore` brings it back", s),
				"%s: a store holds encrypted streams, and no directories", s)
		}
	}
	return places, c
}

// ParseHoldings is ParsePlaces for places that hold snapshots or backups: every one is a Local, a Machine or a Store.
func ParseHoldings(texts []string) ([]Place, Complaints) {
	places, c := ParsePlaces(texts)
	for _, p := range places {
		switch p := p.(type) {
		case Command:
			c.Add("", "look into the store by other means", "%s: the store of a command cannot be listed or verified", p)
		case Daemon:
			c.Add("", "list their folder on the daemon's machine", "%s: the backups of an rsync daemon are not in its module", p)
		}
	}
	return places, c
}

func daemonAt(text, machine, module string) (Place, error) {
	target, err := parseTarget(text, machine)
	if err != nil {
		return nil, err
	}
	module = strings.Trim(path.Clean("/"+module), "/")
	if module == "" {
		return nil, badPlace(text, "the module is missing", "`rsync "+rsyncScheme+target.String()+"/` lists those of the daemon")
	}
	return Daemon{rsyncScheme + target.String() + "/" + module}, nil
}

func machineAt(text, machine, folder string) (Place, error) {
	target, err := parseTarget(text, machine)
	if err != nil {
		return nil, err
	}
	return Machine{target, path.Clean("/" + folder)}, nil
}

// cutMachine cuts [USER@]HOST:PATH, unless a path of this machine has that name.
func cutMachine(text string) (machine, path string, ok bool) {
	end := strings.Index(text, ":")
	if i := strings.Index(text, "]:"); i >= 0 && strings.Contains(text[:i], "[") {
		end = i + 1
	}
	if end < 0 || strings.Contains(text[:end], "/") {
		return "", "", false
	}
	if _, err := os.Lstat(text); err == nil {
		return "", "", false
	}
	return text[:end], text[end+1:], true
}

func parseMachinePath(text, machine, remote string) (Place, error) {
	if !strings.HasPrefix(remote, "/") {
		return nil, badPlace(text, "the path of another machine begins with a slash",
			"use HOST:/PATH for another machine, ./"+text+" for a path of this one")
	}
	if strings.Contains(strings.TrimPrefix(machine[strings.LastIndex(machine, "@")+1:], "["), ":") && !strings.HasSuffix(machine, "]") {
		return nil, badPlace(text, "this form has no port", "use ssh://HOST:PORT/PATH")
	}
	return machineAt(text, machine, remote)
}

func badPlace(text, why, forward string) error {
	return hint.New(errors.New(text+": "+why), forward)
}
