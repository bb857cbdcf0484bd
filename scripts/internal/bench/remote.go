package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// remoteCase is a case with those who are compared in it.
type remoteCase struct {
	testCase
	contestants []contestant
}

func remoteCases(s settings) ([]remoteCase, error) {
	const gib = 1 << 30
	r, err := newRemoteContestants(s.program)
	if err != nil {
		return nil, err
	}
	size, small := gib/s.scale, 50_000/s.scale
	changed := small * 3 / 100
	return []remoteCase{
		{testCase{name: fmt.Sprintf("%d MB, random", size/mib), host: near, often: 1, grow: randomFiles(size / 4)}, r.push()},
		{testCase{name: fmt.Sprintf("%d MB, text", size/mib), host: near, often: 1, grow: textFiles(size / 4)}, r.push()},
		{testCase{name: fmt.Sprintf("%d files of up to 4 KiB", small), host: near, often: 1,
			grow: func(dir string) error { return files(dir, small, func(i int) int { return sizeUpTo(4*kib, i) }) }}, r.push()},
		{testCase{name: fmt.Sprintf("%d of %d files changed since", changed, small), host: near, often: 3,
			grow:   func(dir string) error { return files(dir, small, func(i int) int { return sizeUpTo(32*kib, i) }) },
			change: func(dir string) error { return change(dir, small, changed) }}, r.push()},
		{testCase{name: fmt.Sprintf("%d MB, random, thrown away", size/mib), host: near, nowhere: true, often: 2,
			grow: randomFiles(size / 4)}, pull(s.program)},
		{testCase{name: fmt.Sprintf("%d MB, random, 100 ms away", size/2/mib), host: far, often: 1, grow: randomFiles(size / 8)},
			[]contestant{r.hand, r.defaults, r.one, r.eight, r.theirs}},
		{testCase{name: fmt.Sprintf("%d MB, text, 100 ms away", size/2/mib), host: far, often: 1, grow: textFiles(size / 8)},
			[]contestant{r.hand, r.defaults, r.none}},
	}, nil
}

// remoteContestants send to another machine.
type remoteContestants struct {
	hand, fast                         contestant
	defaults, none, one, eight, theirs contestant
	btrbk                              []contestant // none where it is not installed
}

func newRemoteContestants(program string) (r remoteContestants, err error) {
	if _, err := exec.LookPath(program); err != nil {
		return r, err
	}
	sends := func(options ...string) contestant {
		return contestant{name: strings.Join(append([]string{"btrfs-backup"}, options...), " "), ours: true,
			command: oursOverSSH(program, options...)}
	}
	r = remoteContestants{
		hand:     contestant{name: "by hand", command: typedOverSSH()},
		fast:     contestant{name: "by hand, -c " + fastCipher, command: typedOverSSH("-c", fastCipher)},
		defaults: sends(), none: sends("--compress", "none"), one: sends("--channels", "1"), eight: sends("--channels", "8"),
		theirs: sends("--ssh-program", "ssh"),
	}
	if _, err := exec.LookPath("btrbk"); err != nil {
		progress("btrbk is not installed, so it is left out")
		return r, nil
	}
	r.btrbk = []contestant{{name: "btrbk", command: btrbk}}
	return r, nil
}

func (r remoteContestants) push() []contestant {
	return append([]contestant{r.hand, r.fast, r.defaults, r.none, r.one, r.theirs}, r.btrbk...)
}

// pull gives those who fetch a stream from another machine and throw it away.
func pull(program string) []contestant {
	fetches := func(options ...string) contestant {
		return contestant{name: strings.Join(append([]string{"btrfs-backup"}, options...), " "), ours: true,
			command: oursFetched(program, options...)}
	}
	return []contestant{
		{name: "by hand", command: fetched()},
		{name: "by hand, -c " + fastCipher, command: fetched("-c", fastCipher)},
		fetches(), fetches("--channels", "1"), fetches("--ssh-program", "ssh"),
	}
}

const fastCipher = "aes128-gcm@openssh.com"

// typedOverSSH is what one would type; the options are those of ssh.
func typedOverSSH(options ...string) func(backup) ([]string, error) {
	const script = `
set -eu
source=$1 to=$2 parent=$3; shift 3
btrfs subvolume snapshot -r "$source" "$source/snapshot/by-hand"
sync -f "$source/snapshot"
btrfs send ${parent:+-p "$source/snapshot/$parent"} "$source/snapshot/by-hand" |
	ssh "$@" "btrfs receive '$to' && sync -f '$to'"`
	return func(b backup) ([]string, error) {
		return append(append([]string{"sh", "-c", script, "by-hand", b.source, b.to, b.parent}, options...), b.host), nil
	}
}

func fetched(options ...string) func(backup) ([]string, error) {
	const script = `
set -euo pipefail
source=$1; shift
ssh "$@" "btrfs subvolume snapshot -r '$source' '$source/snapshot/by-hand' >&2 &&
	sync -f '$source/snapshot' && btrfs send '$source/snapshot/by-hand'" | cat >/dev/null`
	return func(b backup) ([]string, error) {
		return append(append([]string{"bash", "-c", script, "by-hand", b.source}, options...), b.host), nil
	}
}

func oursOverSSH(program string, options ...string) func(backup) ([]string, error) {
	return func(b backup) ([]string, error) {
		return append(append([]string{program}, options...), b.source, b.url(b.to)), nil
	}
}

func oursFetched(program string, options ...string) func(backup) ([]string, error) {
	return func(b backup) ([]string, error) {
		return append(append([]string{program}, options...), b.url(b.source), "shell://cat >/dev/null"), nil
	}
}

func randomFiles(size int) func(dir string) error {
	return func(dir string) error { return files(dir, 4, func(int) int { return size }) }
}

// benchRemote measures everything that goes over SSH.
func benchRemote(s settings) error {
	m, err := newMachine(s.dir)
	if err != nil {
		return err
	}
	cases, err := remoteCases(s)
	if err != nil {
		return err
	}
	for _, c := range cases {
		if s.only.MatchString(c.name) {
			if err := benchRemoteCase(s, m, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	if s.only.MatchString(listCase) {
		return benchList(s, m)
	}
	return nil
}

func benchRemoteCase(s settings, m *machine, c remoteCase) error {
	l := newLab(s.dir)
	l.measure = m.measure
	defer l.close()
	results, err := l.compare(c.testCase, c.contestants, s.rounds)
	if err != nil {
		return err
	}
	printRemote(os.Stdout, c, results)
	return nil
}

// listCase is the name of the case that lists folders.
const listCase = "listing 10 folders, 100 ms away"

// listing is one way to list the folders.
type listing struct {
	name        string
	argvs       [][]string // of what is run, one after the other
	took        []usage
	connections int64 // of a round
}

func benchList(s settings, m *machine) error {
	l := newLab(s.dir)
	defer l.close()
	source, err := l.newSource()
	if err != nil {
		return err
	}
	if err := takeSnapshots(source, 10); err != nil {
		return err
	}
	var urls []string
	for i := range 10 {
		folder := filepath.Join(filepath.Dir(source), fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		urls = append(urls, backup{host: far}.url(folder))
	}
	ways := listings(s.program, urls)
	for range s.rounds {
		for _, way := range ways {
			if err := way.round(m); err != nil {
				return err
			}
		}
	}
	printListings(os.Stdout, ways)
	return nil
}

func listings(program string, urls []string) []*listing {
	all := func(options ...string) []string {
		return append(append([]string{program, "list"}, options...), urls...)
	}
	ten := &listing{name: "ten calls"}
	for _, url := range urls {
		ten.argvs = append(ten.argvs, []string{program, "list", url})
	}
	return []*listing{
		{name: "one call", argvs: [][]string{all()}},
		{name: "one call, --ssh-program ssh", argvs: [][]string{all("--ssh-program", "ssh")}},
		ten,
	}
}

func (w *listing) round(m *machine) error {
	var sum usage
	before := m.proxy.accepted.Load()
	for _, argv := range w.argvs {
		u, err := m.measure(argv)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		sum.wall += u.wall
		progress("%s: %s: %.2f s", listCase, w.name, u.wall.Seconds())
	}
	w.took, w.connections = append(w.took, sum), m.proxy.accepted.Load()-before
	return nil
}
