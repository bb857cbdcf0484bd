package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// configured writes a configuration with a job of the source, and another one with the same destinations.
func (r *offsiteRig) configured(keep, more string, destinations ...string) (file string) {
	r.Helper()
	file = filepath.Join(r.TempDir(), "config.toml")
	to := fmt.Sprintf("destination = [%q]\n", destinations)
	to = strings.ReplaceAll(to, `" "`, `", "`)
	to = strings.NewReplacer("[[", "[", "]]", "]").Replace(to)
	text := "[job.other]\nsource = \"/etc\"\nrelay = true\nkeep-backups = \"1d\"\n" + to +
		fmt.Sprintf("[job.home]\nsource = %q\nkeep-backups = %q\nrecipients = %q\none-recipient = true\n", r.source, keep, r.recipients) + to + more
	btrfstest.Check(r, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestExplainTakesThePolicyOfTheJobThatHasAStore(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saveThree()
	all := r.snapshots()
	file := r.configured("2h", "", r.place)
	for _, place := range []string{r.place, r.place + "/" + r.sourceName()} {
		told := expect(t, exitDone, invoke(t, nil, "explain", "--config", file, place), "By the policy of the configuration, 2h:", all[2])
		if strings.Count(told.stdout, "hour") < 2 || !strings.Contains(told.stdout, "parent of") {
			t.Errorf("%s is not explained by the policy of its job:\n%s", place, told.stdout)
		}
	}
	given := expect(t, exitDone, invoke(t, nil, "explain", "--config", file, "-n", "1", r.place))
	if strings.Contains(given.stdout, "configuration") || strings.Contains(given.stdout, "hour") {
		t.Errorf("what is given does not count:\n%s", given.stdout)
	}
	expect(t, exitUsage, invoke(t, nil, "prune", "--dry-run", "--config", file, r.place), "several jobs have it: other, home")
	expect(t, exitDone, invoke(t, []string{"XDG_STATE_HOME=" + r.state}, "prune", "--dry-run", "--config", file, r.place+"/"+r.sourceName()))

	folder := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups")
	cmd := r.command(nil)
	cmd.Args = append(cmd.Args, folder)
	expect(t, exitDone, invokeCmd(t, cmd))
	single := filepath.Join(t.TempDir(), "config.toml")
	btrfstest.Check(t, os.WriteFile(single, []byte(fmt.Sprintf("[job.home]\nsource = %q\ndestination = %q\nkeep-backups = \"2h\"\n", r.source, folder)), 0o600))
	expect(t, exitDone, invoke(t, nil, "explain", "--config", single, folder), "By the policy of the configuration, 2h:")
}

func TestConfigCheckLooksAtTheFilesOfStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name, text string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		btrfstest.Check(t, os.WriteFile(file, []byte(text), mode))
		btrfstest.Check(t, os.Chmod(file, mode))
		return file
	}
	const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n"
	recipients := at("recipients", recipient, 0o644)
	check := func(status int, text string, told ...string) {
		t.Helper()
		file := at("config.toml", "[job.home]\nsource = \"/home\"\none-recipient = true\n"+text, 0o600)
		expect(t, status, invoke(t, []string{"XDG_STATE_HOME=" + dir}, "config", "check", "--config", file), told...)
	}
	good := fmt.Sprintf("recipients = %q\ndestination = \"s3://host/bucket/pc\"\n", recipients)
	secret := at("secret", "key = a\nsecret = b\n", 0o600)
	check(exitDone, good+fmt.Sprintf("credentials = %q\n", secret), "1 job, nothing is wrong")
	check(exitUsage, "recipients = \"/no/such\"\ndestination = \"store:/srv/pc\"\n", "config.toml:4: recipients /no/such", "does not exist", "key new")
	check(exitUsage, "destination = \"store:/srv/pc\"\n", "config.toml:4: recipients /etc/btrfs-backup/recipients", "does not exist")
	check(exitUsage, good+"credentials = \"/no/such\"\n", "config.toml:6: credentials the file /no/such", "does not exist", "chmod 600")
	open := at("open", "key = a\nsecret = b\n", 0o644)
	check(exitUsage, good+fmt.Sprintf("[job.home.to.\"s3://host/bucket/pc\"]\ncredentials = %q\n", open), "config.toml:7: credentials",
		"others than its owner have access", "chmod 600")
	check(exitUsage, good+fmt.Sprintf("credentials = %q\n", at("empty", "", 0o600)), "config.toml:6: credentials")
	btrfstest.Check(t, os.MkdirAll(filepath.Join(dir, "btrfs-backup"), 0o700))
	at("btrfs-backup/signing.key", "nothing", 0o600)
	check(exitUsage, good, "config.toml:5: destination", "is damaged")
}
