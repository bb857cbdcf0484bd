package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// typed drives an interactive shell on a terminal: it types a line, presses TAB, and writes what the line has become.
const typed = `
zmodload zsh/zpty
zpty shell "$1"
zpty -w shell "$2"
zpty -r shell said '*READY*READY*' # the command and its output
for line in "${@:3}"; do
	zpty -w -n shell "$line"$'\t\x14'
	zpty -r shell said '*LINE<*>*'
	said=${said##*LINE<}
	print -r -- "${said%%>*}"
	zpty -w -n shell $'\x15'
done
zpty -d shell
`

// Each shell shows its line on Ctrl-T.
const (
	bashSetUp = `. /usr/share/bash-completion/bash_completion; . <(btrfs-backup completion bash); ` +
		`bind 'set enable-bracketed-paste off'; bind -x '"\C-t": printf "LINE<%s>\n" "$READLINE_LINE"'; bind '"\C-u": kill-whole-line'; printf 'RE%s\n' ADY READY`
	zshSetUp = `autoload -U compinit; compinit -u -D; . <(btrfs-backup completion zsh); ` +
		`show() print -r "LINE<$BUFFER>"; zle -N show; bindkey '^T' show; bindkey '^U' kill-whole-line; printf 'RE%s\n' ADY READY`
)

func TestShellsCompletePathsCommandsAndValues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	btrfstest.Check(t, os.Mkdir(filepath.Join(dir, "home"), 0o755))
	write(t, filepath.Join(dir, "patterns"), "")
	lines := map[string]string{ // TAB makes the first the second
		"btrfs-backup " + dir + "/ho":                 "btrfs-backup " + dir + "/home/",
		"btrfs-backup / " + dir + "/ho":               "btrfs-backup / " + dir + "/home/",
		"btrfs-backup list " + dir + "/ho":            "btrfs-backup list " + dir + "/home/",
		"btrfs-backup exp":                            "btrfs-backup explain",
		"btrfs-backup explain " + dir + "/ho":         "btrfs-backup explain " + dir + "/home/",
		"btrfs-backup explain --keep-b":               "btrfs-backup explain --keep-backups",
		"btrfs-backup verif":                          "btrfs-backup verify",
		"btrfs-backup --compress zs":                  "btrfs-backup --compress zstd",
		"btrfs-backup list --compress zs":             "btrfs-backup list --compress zstd",
		"btrfs-backup --engine rs":                    "btrfs-backup --engine rsync",
		"btrfs-backup --agent inst":                   "btrfs-backup --agent installed",
		"btrfs-backup -v deb":                         "btrfs-backup -v debug",
		"btrfs-backup --exclude-from " + dir + "/pat": "btrfs-backup --exclude-from " + dir + "/patterns",
		"btrfs-backup --mount-point " + dir + "/ho":   "btrfs-backup --mount-point " + dir + "/home/",
		"btrfs-backup --num-sn":                       "btrfs-backup --num-snapshots",
	}
	var typedLines, want []string
	for line, becomes := range lines {
		typedLines, want = append(typedLines, line), append(want, becomes)
	}
	for shell, setUp := range map[string]string{"bash --norc --noprofile -i": bashSetUp, "zsh -f -i": zshSetUp} {
		t.Run(shell, func(t *testing.T) {
			cmd := exec.Command("zsh", append([]string{"-f", "-c", typed, "zsh", shell, setUp}, typedLines...)...)
			cmd.Env = append(os.Environ(), "TERM=dumb", "PS1=", "HOME="+dir)
			r := expect(t, exitDone, invokeCmd(t, cmd))
			got := strings.Split(strings.TrimSpace(r.stdout), "\n")
			for i, line := range typedLines {
				if i >= len(got) || strings.TrimSpace(got[i]) != want[i] {
					t.Errorf("%s becomes %q, want %q", line, got[min(i, len(got)-1)], want[i])
				}
			}
		})
	}
	t.Run("fish", func(t *testing.T) {
		for i, line := range typedLines {
			cmd := exec.Command("fish", "--no-config", "-c", "btrfs-backup completion fish | source; complete --do-complete $argv[1]", line)
			cmd.Env = append(os.Environ(), "HOME="+dir)
			r := expect(t, exitDone, invokeCmd(t, cmd))
			word := want[i][strings.LastIndex(want[i], " ")+1:]
			if got, _, _ := strings.Cut(strings.TrimSpace(r.stdout), "\t"); got != word {
				t.Errorf("%s: %q is offered, want %q", line, got, word)
			}
		}
	})
}

func TestJobsTagsAndDisksAreCompleted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.toml")
	btrfstest.Check(t, os.WriteFile(file, []byte(`[disk.usb]
mount = "/mnt/usb"
[job.home]
source = "/home"
tags = ["small", "local"]
hook = [{ before = ["/no/such/program"] }]
[job.etc]
source = "/etc"
tags = ["small"]
`), 0o600))
	for line, want := range map[string]string{
		"run --config FILE ": "home etc", "run --config FILE etc ": "home", "status --config FILE ": "home etc",
		"config show --config FILE ": "home etc", "run --config FILE --tag ": "local small", "run --config FILE --disk ": "usb",
	} {
		r := succeed(t, append([]string{"__complete"}, strings.Split(strings.ReplaceAll(line, "FILE", file), " ")...)...)
		names, _, _ := strings.Cut(r.stdout, ":4\n") // cobra.ShellCompDirectiveNoFileComp
		if got := strings.Join(strings.Fields(names), " "); got != want || names == r.stdout {
			t.Errorf("%s: %q is offered, want %q: %s", line, got, want, r.stdout)
		}
	}
}

func TestCompletionsExplainThemselvesWithoutMarks(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{nil, {"list"}, {"serve"}} {
		r := succeed(t, append(append([]string{"__complete"}, command...), "--")...)
		if !strings.Contains(r.stdout, "--") || strings.Contains(r.stdout, "`") {
			t.Errorf("%v: %s", command, r.stdout)
		}
	}
}
