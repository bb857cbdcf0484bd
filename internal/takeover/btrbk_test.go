package takeover

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/job"

	"github.com/pelletier/go-toml/v2"
)

// mustBtrbk takes over a file, whose result must be TOML.
func mustBtrbk(t testing.TB, text string) Result {
	t.Helper()
	r, err := Btrbk("btrbk.conf", []byte(text))
	return mustBeTOML(t, r, err)
}

func mustBeTOML(t testing.TB, r Result, err error) Result {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var read map[string]any
	if err := toml.Unmarshal([]byte(r.Text), &read); err != nil {
		t.Fatalf("%v in\n%s", err, r.Text)
	}
	if n := strings.Count(r.Text, "# not taken over: "); n != r.Left {
		t.Errorf("%d remarks, but %d lines are said to be left", n, r.Left)
	}
	return r
}

// wantLines fails unless the text has these lines, in this order.
func wantLines(t testing.TB, text string, want ...string) {
	t.Helper()
	rest := strings.Split(text, "\n")
	for _, line := range want {
		i := slices.Index(rest, line)
		if i < 0 {
			t.Errorf("there is no line %s (behind those before it) in\n%s", line, text)
			return
		}
		rest = rest[i+1:]
	}
}

// The options of btrbk.conf(5) 0.32.5 of Debian, of btrbk 0.33, and those of older versions that btrbk knows, each with values
// that differ in what becomes of them: a line, "" for a remark that nothing is needed, or behind "!" the reason of what is left.
var btrbkCases = []struct{ option, value, want string }{
	{"timestamp_format", "short", `name = "btrbk-short"`},
	{"timestamp_format", "long", `name = "btrbk-long"`},
	{"timestamp_format", "long-iso", `name = "btrbk-long-iso"`},
	{"snapshot_dir", "/snaps", `snapshot-folder = "/snaps"`},
	{"snapshot_dir", "_btrbk/snap/", `snapshot-folder = "/mnt/pool/_btrbk/snap"`},
	{"snapshot_name", "base", `snapshot-prefix = "base"`},
	{"snapshot_create", "always", ""},
	{"snapshot_create", "onchange", "only-changed = true"},
	{"snapshot_create", "ondemand", "!a snapshot is taken although no destination can be reached"},
	{"snapshot_create", "no", "no-snapshot = true"},
	{"incremental", "yes", ""},
	{"incremental", "no", "no-incremental = true"},
	{"incremental", "strict", "!a complete copy is sent"},
	{"noauto", "yes", "auto = false"},
	{"noauto", "no", ""},
	{"group", "daily, laptop", `tags = ["daily", "laptop"]`},
	{"preserve_day_of_week", "monday", `keep-snapshots = "within=2d 14d week-start=monday"`},
	{"preserve_day_of_week", "sunday", ""},
	{"preserve_hour_of_day", "6", `keep-backups = "20d 10w *m day-start=06:00"`},
	{"preserve_hour_of_day", "0", ""},
	{"snapshot_preserve", "24h 7d 4w 3m 1y", `keep-snapshots = "within=2d 24h 7d 4w 3m 1y"`},
	{"snapshot_preserve", "no", `keep-snapshots = "within=2d"`},
	{"snapshot_preserve_min", "latest", `keep-snapshots = "last=1 14d"`},
	{"snapshot_preserve_min", "6h", `keep-snapshots = "within=6h 14d"`},
	{"snapshot_preserve_min", "all", `# NOTHING IS EVER DELETED: snapshot_preserve_min is "all"; keep-snapshots = "20d 10w *m" would delete`},
	{"target_preserve", "7D *Y", `keep-backups = "7d *y"`},
	{"target_preserve", "no", `keep-backups = "last=1"`},
	{"target_preserve_min", "no", `keep-backups = "20d 10w *m"`},
	{"target_preserve_min", "latest", `keep-backups = "last=1 20d 10w *m"`},
	{"target_preserve_min", "0d", `keep-backups = "20d 10w *m"`},
	{"target_preserve_min", "all", `# NOTHING IS EVER DELETED: target_preserve_min is "all"; keep-backups = "20d 10w *m" would delete`},
	{"archive_preserve", "no", ""},
	{"archive_preserve", "12m", "!btrbk archive"},
	{"archive_preserve_min", "latest", "!btrbk archive"},
	{"archive_exclude", "*/tmp", "!btrbk archive"},
	{"archive_exclude_older", "yes", "!btrbk archive"},
	{"ssh_identity", "/etc/btrbk/ssh/id_ed25519", `ssh-opt = ["IdentityFile=/etc/btrbk/ssh/id_ed25519"]`},
	{"ssh_identity", "no", ""},
	{"ssh_user", "backup", `destination = ["backup@nas:/backup/home"]`},
	{"ssh_user", "no", `destination = ["nas:/backup/home"]`},
	{"ssh_port", "2222", `destination = ["ssh://root@nas:2222/backup/home"]`},
	{"ssh_port", "default", `destination = ["root@nas:/backup/home"]`},
	{"ssh_compression", "yes", `ssh-opt = ["Compression=yes"]`},
	{"ssh_compression", "no", ""},
	{"ssh_cipher_spec", "default", ""},
	{"ssh_cipher_spec", "aes128-ctr, chacha20-poly1305@openssh.com", `ssh-opt = ["Ciphers=aes128-ctr,chacha20-poly1305@openssh.com"]`},
	{"stream_compress", "zstd", `compress = "zstd"`},
	{"stream_compress", "lz4", `compress = "zstd"`},
	{"stream_compress", "no", `compress = "none"`},
	{"stream_compress_level", "3", ""},
	{"stream_compress_long", "27", ""},
	{"stream_compress_threads", "4", ""},
	{"stream_compress_adapt", "yes", ""},
	{"stream_buffer", "256m", ""},
	{"stream_buffer_remote", "25%", ""},
	{"rate_limit", "10m", `rate-limit = "10M"`},
	{"rate_limit", "no", ""},
	{"rate_limit_remote", "512k", `rate-limit = "512K"`},
	{"transaction_log", "/var/log/btrbk.log", `log = "/var/log/btrfs-backup"`},
	{"transaction_log", "no", ""},
	{"transaction_syslog", "local3", ""},
	{"lockfile", "/var/lock/btrbk.lock", ""},
	{"backend", "btrfs-progs", ""},
	{"backend", "btrfs-progs-sudo", "ssh-sudo = true"},
	{"backend", "btrfs-progs-doas", "!no doas"},
	{"backend", "btrfs-progs-btrbk", "!btrfs-progs-btrbk are not used"},
	{"backend_remote", "btrfs-progs-sudo", "ssh-sudo = true"},
	{"backend_remote", "btrfs-progs-doas", "!no doas"},
	{"backend_local", "btrfs-progs-sudo", ""},
	{"backend_local_user", "btrfs-progs-doas", ""},
	{"compat", "busybox", ""},
	{"compat", "ignore_receive_errors, busybox", "!may not be restorable"},
	{"compat_local", "ignore_receive_errors", "!may not be restorable"},
	{"compat_remote", "ignore_receive_errors", "!may not be restorable"},
	{"compat_remote", "no", ""},
	{"cache_dir", "/var/cache/btrbk", ""},
	{"incremental_prefs", "defaults", ""},
	{"incremental_prefs", "sro:1 sao", "!chosen by UUID"},
	{"incremental_clones", "no", ""},
	{"incremental_clones", "yes", ""},
	{"incremental_resolve", "directory", ""},
	{"incremental_resolve", "mountpoint", "!in the folder of the snapshots"},
	{"btrfs_commit_delete", "yes", "sync = true"},
	{"btrfs_commit_delete", "no", ""},
	{"snapshot_qgroup_destroy", "yes", "!btrfs qgroup clear-stale"},
	{"target_qgroup_destroy", "yes", "!btrfs qgroup clear-stale"},
	{"archive_qgroup_destroy", "yes", "!btrfs qgroup clear-stale"},
	{"target_qgroup_destroy", "no", ""},
	{"warn_unknown_targets", "yes", ""},
	{"safe_commands", "yes", ""},
	{"ignore_extent_data_inline", "yes", ""},
	{"send_protocol", "2", ""},
	{"send_protocol", "1", "!newest protocol"},
	{"send_compressed_data", "yes", ""},
	{"send_compressed_data", "no", "!compressed data"},
	{"raw_target_compress", "xz", "!no raw targets"},
	{"raw_target_compress", "no", ""},
	{"raw_target_compress_level", "9", "!no raw targets"},
	{"raw_target_compress_long", "27", "!no raw targets"},
	{"raw_target_compress_threads", "2", "!no raw targets"},
	{"raw_target_split", "1G", "!no raw targets"},
	{"raw_target_block_size", "128K", "!no raw targets"},
	{"raw_target_encrypt", "gpg", "!no raw targets"},
	{"gpg_keyring", "/etc/btrbk/gpg/pubring.kbx", "!no raw targets"},
	{"gpg_recipient", "me@example.org", "!no raw targets"},
	{"openssl_ciphername", "aes-256-cbc", "!no raw targets"},
	{"openssl_iv_size", "16", "!no raw targets"},
	{"openssl_keyfile", "/etc/key", "!no raw targets"},
	{"kdf_backend", "/usr/share/btrbk/scripts/kdf_pbkdf2.py", "!no raw targets"},
	{"kdf_keysize", "32", "!no raw targets"},
	{"kdf_keygen", "each", "!no raw targets"},
	{"snapshot_preserve_daily", "14", "!btrbk itself"},
	{"snapshot_preserve_weekly", "0", "!btrbk itself"},
	{"snapshot_preserve_monthly", "all", "!btrbk itself"},
	{"target_preserve_daily", "14", "!btrbk itself"},
	{"target_preserve_weekly", "0", "!btrbk itself"},
	{"target_preserve_monthly", "all", "!btrbk itself"},
	{"resume_missing", "yes", ""},
	{"resume_missing", "no", "!btrbk itself"},
	{"snapshot_create_always", "yes", ""},
	{"snapshot_create_always", "no", "!a snapshot is taken"},
	{"receive_log", "sidecar", ""},
	{"btrfs_progs_compat", "yes", ""},
}

func TestEachOptionOfBtrbkIsTakenOverOrNamed(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range btrbkCases {
		seen[c.option] = true
		t.Run(c.option+" "+c.value, func(t *testing.T) {
			inSubvolume := map[string]string{"snapshot_name": c.option + " " + c.value}[c.option]
			global := ""
			if inSubvolume == "" {
				global = c.option + " " + c.value
			}
			// what is set again by another line of the same section does not count
			defaults := ""
			for _, d := range [][2]string{{"snapshot_preserve_min", "2d"}, {"snapshot_preserve", "14d"}, {"target_preserve_min", "no"},
				{"target_preserve", "20d 10w *m"}} {
				if d[0] != c.option {
					defaults += d[0] + " " + d[1] + "\n"
				}
			}
			r := mustBtrbk(t, defaults+"# the option\n"+global+"\nvolume /mnt/pool\nsubvolume home\n"+inSubvolume+"\ntarget nas:/backup/home\n")
			at := fmt.Sprintf("line %d %q", strings.Count(defaults, "\n")+2, global)
			if inSubvolume != "" {
				at = fmt.Sprintf("line 9 %q", inSubvolume)
			}
			reason, isLeft := strings.CutPrefix(c.want, "!")
			i := strings.Index(r.Text, at)
			if i < 0 {
				t.Fatalf("%s is nowhere in\n%s", at, r.Text)
			}
			line, rest, _ := strings.Cut(r.Text[i:], "\n")
			before := r.Text[strings.LastIndex(r.Text[:i], "\n")+1 : i]
			switch {
			case isLeft && (before != "# not taken over: " || !strings.Contains(line, reason) || r.Left != 1):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want == "" && (!strings.HasPrefix(before, "# not needed: ") && before != "# " || r.Left != 0):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want != "" && !isLeft && (before != "# " || r.Left != 0):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want != "" && !isLeft:
				wantLines(t, rest, c.want)
			}
		})
	}
	if known := slices.Sorted(maps.Keys(btrbkOptions)); !slices.Equal(known, slices.Sorted(maps.Keys(seen))) {
		t.Errorf("the options are %v", known)
	}
}

const twoPools = `snapshot_preserve_min 2d
target_preserve 20d
target_preserve_min no
ssh_user backup
target "/mnt/every one" # in quotes
volume ssh://nas:2222/pool
  group servers
  snapshot_dir .snap
  SUBVOLUME .
  subvolume @data
    group db,weekly
    target /mnt/second
      target_preserve no
      target_preserve_min latest
      rate_limit 2m
    target send-receive [2001:db8::7]:/pool
      ssh_user no
volume /pool
  timestamp_format short
  snapshot_dir /snap
  subvolume a/b
    target /mnt/every one
      target_preserve 7d
  subvolume /other/@
    timestamp_format long-iso
    target_preserve 3w
    noauto
`

func TestOptionsCountInTheSectionsBelow(t *testing.T) {
	r := mustBtrbk(t, twoPools)
	wantLines(t, r.Text, "[job.pool]", `source = "ssh://backup@nas:2222/pool"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "pool"`,
		`snapshot-folder = "/pool/.snap"`, `tags = ["servers"]`, `keep-snapshots = "within=2d"`, `keep-backups = "20d"`,
		"[job.data]", `source = "ssh://backup@nas:2222/pool/@data"`, `destination = ["/mnt/every one", "/mnt/second", "[2001:db8::7]:/pool"]`,
		`snapshot-prefix = "@data"`, `name = "btrbk-long"`, `tags = ["db", "weekly", "servers"]`,
		`[job.data.to."/mnt/every one"]`, `keep-backups = "20d"`,
		`[job.data.to."/mnt/second"]`, `keep-backups = "last=1"`, `rate-limit = "2M"`,
		`[job.data.to."[2001:db8::7]:/pool"]`, `keep-backups = "20d"`,
		"[job.b]", `source = "/pool/a/b"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "b"`, `name = "btrbk-short"`,
		`snapshot-folder = "/snap"`, `keep-backups = "7d"`,
		"[job.root]", `source = "/other/@"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "@"`, `name = "btrbk-long-iso"`, "auto = false",
		`keep-backups = "3w"`)
	if r.Left != 0 {
		t.Errorf("%d left", r.Left)
	}
}

func TestWithoutALineBtrbkKeepsEverything(t *testing.T) {
	r := mustBtrbk(t, "target_preserve 20d\nsnapshot_dir /snap\ntarget /mnt/disk\nsubvolume /home\n")
	wantLines(t, r.Text,
		`# NOTHING IS EVER DELETED: snapshot_preserve_min is "all", as always when btrbk.conf does not say otherwise; keep-snapshots = "20d 10w *m" would delete`,
		`# line 1 "target_preserve 20d"`,
		`# NOTHING IS EVER DELETED: target_preserve_min is "all", as always when btrbk.conf does not say otherwise; keep-backups = "20d 10w *m" would delete`)
	if strings.Contains(r.Text, "\nkeep-") {
		t.Errorf("something is deleted:\n%s", r.Text)
	}
}

func TestWhatOneJobCannotHaveTwiceIsNamed(t *testing.T) {
	r := mustBtrbk(t, `snapshot_dir /snap
subvolume /home
  target nas:/backup
    ssh_identity /a
    stream_compress zstd
  target off.example:/backup
    ssh_identity /b
    noauto yes
    group offsite
  target raw /mnt/raw
`)
	wantLines(t, r.Text, `destination = ["root@nas:/backup", "root@off.example:/backup"]`, `ssh-opt = ["IdentityFile=/a"]`, `compress = "zstd"`)
	for _, line := range []string{`line 7 "ssh_identity /b" (ssh-opt is ["IdentityFile=/b"] here, but one of job home`,
		`line 6 "target off.example:/backup" (compress is "" here`, `line 8 "noauto yes" (a run serves all destinations`,
		`line 9 "group offsite" (a run serves`, `line 10 "target raw /mnt/raw" (there are no raw targets`} {
		if !strings.Contains(r.Text, "\n# not taken over: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	if r.Left != 5 {
		t.Errorf("%d left", r.Left)
	}
}

func TestWhatNoJobUsesIsNamed(t *testing.T) {
	r := mustBtrbk(t, `snapshot_dir /a
snapshot_dir /b
volume /empty
  target /mnt/nothing
volume /pool
  subvolume home
`)
	for _, line := range []string{`line 1 "snapshot_dir /a"`, `line 3 "volume /empty"`, `line 4 "target /mnt/nothing"`} {
		if !strings.Contains(r.Text, "\n# not needed: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	wantLines(t, r.Text, `snapshot-folder = "/b"`, `compat = "btrbk"`)
}

func TestAllThatBtrbkWouldRefuseIsToldAtOnce(t *testing.T) {
	_, err := Btrbk("/etc/btrbk.conf", []byte(`snapshot_preserve 14x
no_such_option 1
volume relative/path
  transaction_log /log
  subvolume ../up
    target tape /dev/st0
    target nas
    timestamp_format iso
    target_preserve 7d 8d
=
`+"caf\xe9\n"))
	var want = []string{`:1: snapshot_preserve cannot be "14x"`, `:2: btrbk has no option no_such_option`, `:3: "relative/path" cannot be a volume`,
		`:4: transaction_log cannot stand in a volume section`, `:5: "../up" cannot be a subvolume`, `:6: there is no target type "tape"`,
		`:7: "nas" cannot be a target`, `:8: timestamp_format cannot stand in a target section`, `:10: "=" is no line of a btrbk.conf`,
		`:11: this is no text in UTF-8`}
	wantComplaints(t, err, "/etc/btrbk.conf", want...)
	for text, want := range map[string]string{
		"":                                  ":1: there is no subvolume that could be a source",
		"volume /p\n":                       ":1: there is no subvolume that could be a source",
		"subvolume /home\n":                 `:1: subvolume "/home" has neither snapshot_dir nor volume`,
		"snapshot_dir s\nsubvolume /home\n": `:1: snapshot_dir is relative, but subvolume "/home" has no volume`,
		"target_preserve 7d 8d\ntarget_preserve_min no\nvolume /p\nsubvolume s\ntarget /t\n": `:1: target_preserve: "8d" is a second term of its kind`,
	} {
		_, err := Btrbk("f", []byte(text))
		wantComplaints(t, err, "f", want)
	}
}

// wantComplaints fails unless there are these complaints about a file, each with a hint.
func wantComplaints(t testing.TB, err error, file string, want ...string) {
	t.Helper()
	var all job.Complaints
	if !errors.As(err, &all) {
		t.Fatalf("error: %v", err)
	}
	var lines []string
	for _, c := range all {
		if lines = append(lines, c.Error()); hint.Of(c) == "" {
			t.Errorf("%v has no hint", c)
		}
	}
	for i, line := range want {
		want[i] = file + line
	}
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("complaints:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestPatternsStandForTheSubvolumesThatMatchNow(t *testing.T) {
	const size = 120 << 20
	pool := btrfstest.New(t, size).Dir
	for _, name := range []string{"vm-a", "vm-b", "vm-[c]", "other"} {
		btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(pool, name))
	}
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", "-r", filepath.Join(pool, "vm-a"), filepath.Join(pool, "vm-snapshot"))
	btrfstest.Run(t, "mkdir", filepath.Join(pool, "vm-directory"))
	r := mustBtrbk(t, "volume "+pool+"\nsubvolume vm-*\nsubvolume vm-[*\nsubvolume none*\nvolume nas:/pool\nsubvolume *\n")
	var sources []string
	for line := range strings.Lines(r.Text) {
		if source, ok := strings.CutPrefix(line, "source = "); ok {
			sources = append(sources, filepath.Base(strings.Trim(source, "\"\n")))
		}
	}
	if want := []string{"vm-[c]", "vm-a", "vm-b", "vm-[c]"}; !slices.Equal(sources, want) {
		t.Errorf("sources %q, want %q", sources, want)
	}
	for _, line := range []string{`line 2 "subvolume vm-*" (there is a job for each of the 3 that match now, and none for later ones)`,
		`line 4 "subvolume none*" (no subvolume matches it on this machine)`, `line 6 "subvolume *" (subvolumes of another machine`} {
		if !strings.Contains(r.Text, "\n# not taken over: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	_, err := Btrbk("f", []byte("volume /pool\nsubvolume vm-*\nsnapshot_name x\n"))
	wantComplaints(t, err, "f", `:3: snapshot_name cannot stand in a section with a pattern`)
}
