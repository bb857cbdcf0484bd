package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"btrfs-backup/internal/sink"
	"btrfs-backup/transport/ssh"
)

// place is a source or destination as it was typed.
type place struct {
	machine *ssh.Target // nil: this one
	path    string      // absolute
	command string      // of shell://; then there is no path
	module  string      // of an rsync daemon, rsync://[USER@]HOST[:PORT]/MODULE[/DIR]; then there is no path
}

func (p place) isModule() bool { return p.module != "" }

const (
	sshScheme   = "ssh://"
	rsyncScheme = "rsync://"
	rsyncPort   = 873
)

// parsePlace understands
//
//	PATH
//	ssh://[USER@]HOST[:PORT]/PATH
//	[USER@]HOST:/PATH
//	shell://COMMAND
//	rsync://[USER@]HOST[:PORT]/MODULE[/DIR]
//	[USER@]HOST::MODULE[/DIR]
//
// where HOST may be an IPv6 address in brackets. No character of a path or command has another meaning.
func parsePlace(text string) (place, error) {
	switch {
	case strings.HasPrefix(text, sink.Scheme):
		command := strings.TrimPrefix(text, sink.Scheme)
		if strings.TrimSpace(command) == "" {
			return place{}, &usageError{msg: text + ": the command is missing", hint: "for example 'shell://cat >/mnt/disk/$BTRFS_BACKUP_SNAPSHOT'"}
		}
		return place{command: command}, nil
	case strings.HasPrefix(text, sshScheme):
		return parseURL(text)
	case strings.HasPrefix(text, rsyncScheme):
		machine, module, _ := strings.Cut(strings.TrimPrefix(text, rsyncScheme), "/")
		return parseModule(text, machine, module)
	}
	if machine, remote, ok := cutMachine(text); ok {
		if module, ok := strings.CutPrefix(remote, ":"); ok {
			return parseModule(text, machine, module)
		}
		return parseMachinePath(text, machine, remote)
	}
	abs, err := filepath.Abs(text)
	return place{path: abs}, err
}

// parsePlaces understands several places.
func parsePlaces(texts []string) ([]place, error) {
	places := make([]place, len(texts))
	for i, text := range texts {
		p, err := parsePlace(text)
		if err != nil {
			return nil, err
		}
		places[i] = p
	}
	return places, nil
}

// parseModule understands a module of an rsync daemon.
func parseModule(text, machine, module string) (place, error) {
	target, err := parseTarget(text, machine)
	if err != nil {
		return place{}, err
	}
	module = strings.Trim(path.Clean("/"+module), "/")
	if module == "" {
		return place{}, badTarget(text, "the module is missing", "`rsync "+rsyncScheme+target.String()+"/` lists those of the daemon")
	}
	return place{module: rsyncScheme + target.String() + "/" + module}, nil
}

// parseURL understands ssh://[USER@]HOST[:PORT]/PATH.
func parseURL(text string) (place, error) {
	machine, rest, _ := strings.Cut(strings.TrimPrefix(text, sshScheme), "/")
	target, err := parseTarget(text, machine)
	return place{machine: &target, path: path.Clean("/" + rest)}, err
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

func parseMachinePath(text, machine, remote string) (place, error) {
	if !strings.HasPrefix(remote, "/") {
		return place{}, &usageError{msg: fmt.Sprintf("%s: the path of another machine begins with a slash", text),
			hint: "use HOST:/PATH for another machine, ./" + text + " for a path of this one"}
	}
	if strings.Contains(strings.TrimPrefix(machine[strings.LastIndex(machine, "@")+1:], "["), ":") && !strings.HasSuffix(machine, "]") {
		return place{}, badTarget(text, "it has no port in this form", "use ssh://HOST:PORT/PATH")
	}
	target, err := parseTarget(text, machine)
	return place{machine: &target, path: path.Clean(remote)}, err
}

// parseTarget understands [USER@]HOST[:PORT].
func parseTarget(text, machine string) (t ssh.Target, err error) {
	if i := strings.LastIndex(machine, "@"); i >= 0 {
		t.User, machine = machine[:i], machine[i+1:]
	}
	t.Host = machine
	port := ""
	if address, after, ok := strings.Cut(machine, "]"); ok && strings.HasPrefix(address, "[") {
		t.Host = address[1:]
		if port, ok = strings.CutPrefix(after, ":"); !ok && after != "" {
			return t, badTarget(text, "behind the address stands "+strconv.Quote(after), "use ssh://[ADDRESS]:PORT/PATH")
		}
	} else if name, after, ok := strings.Cut(machine, ":"); ok {
		t.Host, port = name, after
	}
	t.Host = strings.ToLower(t.Host)
	if port != "" {
		t.Port, err = strconv.Atoi(port)
		if err != nil || t.Port < 1 || t.Port > 65535 {
			return t, badTarget(text, strconv.Quote(port)+" is no port", "use a number up to 65535, or an IPv6 address in brackets")
		}
	}
	switch {
	case t.Host == "":
		return t, badTarget(text, "the host is missing", "use ssh://HOST/PATH")
	case strings.HasPrefix(t.Host, "-") || strings.HasPrefix(t.User, "-"):
		return t, badTarget(text, "no host and no user begins with a hyphen", "check the spelling")
	case strings.Contains(t.User, ":"):
		return t, badTarget(text, "a password has no place there", "use a key: ssh-keygen, ssh-copy-id")
	}
	return t, nil
}

func badTarget(text, why, hint string) error {
	return &usageError{msg: text + ": " + why, hint: hint}
}
