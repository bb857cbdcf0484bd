package options

import (
	"cmp"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestOptionsOfRsyncAreRefusedUnlessTheyAreSafe(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"-avn":                      "-n cannot be used",
		"-a --dry-run":              "--dry-run",
		"-a --remove-source-files":  "delete the source",
		"-a --compare-dest=/x":      "would be missing",
		"-a --copy-dest /x":         "would be missing",
		"-a --ignore-errors":        "would be deleted",
		"-a -- /other":              "further sources",
		"-a /other":                 "/other is no option",
		"-a - /other":               "further source",
		"/other -a":                 "/other is no option",
		"-a --bwlimit 10 /other":    "/other is no option",
		"-a --read-batch=x":         "nothing",
		"-aK --delete":              "-K cannot be used: rsync would write to other places",
		"-a --keep-dirlinks":        "other places",
		"-a --no-recursive":         "would be missing",
		"-a --files-from=/list":     "would be missing",
		"-a --files-from /list":     "would be missing",
		"-a --existing":             "would be missing",
		"-a --ignore-existing":      "would be missing",
		"-au":                       "would be missing",
		"-a --max-size=1M":          "would be missing",
		"-a --backup-dir=/x":        "other places",
		"-aR":                       "other places",
		"-aT/x":                     "other places",
		"-a --partial-dir=/x":       "other places",
		"-aL":                       "outside of SOURCE",
		"-a --log-file=/x":          "messages",
		"-a --stderr=client":        "messages",
		"-ae ssh":                   "reaches other machines",
		"-a --rsync-path=x":         "reaches other machines",
		"-a --daemon":               "would not copy",
		"-a --remove-source":        "not known to be safe", // rsync knows no abbreviations
		"-a --delet":                "not known to be safe",
		"-a --frobnicate":           "not known to be safe",
		"-aw":                       "not known to be safe",
		"-a --archive=yes":          "takes no value",
		"-a --exclude":              "lacks its value",
		"-af":                       "lacks its value",
		"-a --info=help":            "--info=help",
		"-a --info=name,he":         "--info=name,he",
		"-a -M--log-file=/x":        "messages",
		"-a -M --log-file=/x":       "messages",
		"-a --info help":            "--info=help",
		"-a -":                      "further source",
		"-a --remote-option=/x":     "/x is no option",
		"-t":                        "copy nothing",
		"-lH --delete --exclude=-r": "copy nothing",
		"-a 'a b":                   "",
		"  ":                        "copy nothing",
	} {
		if words, err := Split(text); err == nil || !strings.Contains(err.Error(), why) || hint.Of(err) == "" {
			t.Errorf("%s gives %q, %v (%s)", text, words, err, hint.Of(err))
		}
	}
}

func TestTheLastOptionSaysWhetherOneFilesystemIsCopied(t *testing.T) {
	for text, want := range map[string]bool{"-a": false, "-ax": true, "-a --one-file-system": true, "-ax --no-x": false,
		"-a -x --no-one-file-system": false, "-a --no-x -x": true} {
		words, err := Split(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := OneFileSystem(words); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestOptionsOfRsyncThatAreSafeCanBeUsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`-aH --exclude="a b" -M--fake-super --bwlimit 10 --numeric-ids`: {"-aH", "--exclude=a b", "-M--fake-super", "--bwlimit", "10", "--numeric-ids"},
		`-rltH --delete`:                       {"-rltH", "--delete"},
		`-avAXHc --no-D -f'- *.o' --filter -n`: {"-avAXHc", "--no-D", "-f- *.o", "--filter", "-n"},
		`-azF --info=progress2,STATS0 --exclude-from=/x --include '*.c' --delete-excluded -@-1`: {"-azF", "--info=progress2,STATS0",
			"--exclude-from=/x", "--include", "*.c", "--delete-excluded", "-@-1"},
		``: nil,
	} {
		words, err := Split(text)
		if err != nil || !slices.Equal(words, want) {
			t.Errorf("%s gives %q, %v", text, words, err)
		}
	}
	values := map[string]string{"--info": "name", "--remote-option": "-v", "-M": "-v", "--exclude-from": "/dev/null", "--include-from": "/dev/null",
		"--filter": "- x", "-f": "- x", "--zc": "none", "--compress-choice": "none", "--protocol": "31"}
	for name, takesValue := range allowed {
		args := []string{name, "--version"}
		if takesValue {
			args = []string{name, cmp.Or(values[name], "1"), "--version"}
		}
		if out, err := exec.Command("rsync", args...).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "rsync ") {
			t.Errorf("rsync does not know %s: %s", name, out)
		}
	}
}
