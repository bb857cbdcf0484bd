package seal

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// newKey makes a secret key of age.
func newKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	btrfstest.Check(t, err)
	return key
}

// recipientsOf parses public keys.
func recipientsOf(t testing.TB, lines ...string) Recipients {
	t.Helper()
	r, err := ParseRecipients(strings.NewReader(strings.Join(lines, "\n")))
	btrfstest.Check(t, err)
	return r
}

func encrypt(t testing.TB, plain []byte, r Recipients) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := r.Encrypt(&b)
	btrfstest.Check(t, err)
	_, err = w.Write(plain)
	btrfstest.Check(t, err)
	btrfstest.Check(t, w.Close())
	return b.Bytes()
}

func decrypt(t testing.TB, encrypted []byte, ids Identities) string {
	t.Helper()
	r, err := ids.Decrypt(bytes.NewReader(encrypted))
	btrfstest.Check(t, err)
	plain, err := io.ReadAll(r)
	btrfstest.Check(t, err)
	return string(plain)
}

// run runs a program on some input, and gives its output.
func run(t testing.TB, input []byte, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s: %v: %s", program, err, &stderr)
	}
	return string(out), err
}

// sshKey makes a key with ssh-keygen, and gives its file.
func sshKey(t testing.TB, kind, passphrase string, more ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	_, err := run(t, nil, "ssh-keygen", append([]string{"-q", "-t", kind, "-N", passphrase, "-C", "me@laptop", "-f", file}, more...)...)
	btrfstest.Check(t, err)
	return file
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	btrfstest.Check(t, err)
	return string(content)
}

func TestTheStockProgramReadsWhatIsEncrypted(t *testing.T) {
	t.Parallel()
	one, two, ssh, rsa := newKey(t), newKey(t), sshKey(t, "ed25519", ""), sshKey(t, "rsa", "")
	r := recipientsOf(t, "# daily key", one.Recipient().String(), "", "# paper key", two.Recipient().String(), read(t, ssh+".pub"), read(t, rsa+".pub"))
	plain := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	encrypted := encrypt(t, plain, r)
	for _, key := range []string{one.String(), two.String(), read(t, ssh), read(t, rsa)} {
		file := filepath.Join(t.TempDir(), "key")
		btrfstest.Check(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
		if got, err := run(t, encrypted, "age", "-d", "-i", file); err != nil || got != string(plain) {
			t.Errorf("%d bytes of %d, %v", len(got), len(plain), err)
		}
	}
}

func TestCommentsNameRecipients(t *testing.T) {
	t.Parallel()
	one, two, three := newKey(t).Recipient().String(), newKey(t).Recipient().String(), newKey(t).Recipient().String()
	r := recipientsOf(t, "# all keys of this machine", "", "#  daily key ", one, two, "# not this", "# paper key", three, read(t, sshKey(t, "ed25519", "")+".pub"))
	var names []string
	for _, one := range r {
		names = append(names, one.String())
	}
	if got, want := strings.Join(names, "|"), "daily key|"+two[:20]+"...|paper key|me@laptop"; got != want || r[2].Line != 8 {
		t.Errorf("%s in line %d, want %s", got, r[2].Line, want)
	}
}

func TestWhatIsNoPublicKeyIsRefusedWithoutShowingIt(t *testing.T) {
	t.Parallel()
	secret, public := newKey(t).String(), newKey(t).Recipient().String()
	hybrid, err := age.GenerateHybridIdentity()
	btrfstest.Check(t, err)
	recipientsOf(t, hybrid.Recipient().String())
	for lines, want := range map[string]string{
		public + "\n" + secret:                 "line 2: this is a SECRET key",
		strings.ToLower(secret):                "line 1: this is a SECRET key",
		"\n" + hybrid.String():                 "line 2: this is a SECRET key",
		read(t, sshKey(t, "ed25519", "")):      "line 1: this is a SECRET key",
		public[:40]:                            "line 1: malformed recipient",
		"hello":                                "line 1: it is no public key",
		secret[3:]:                             "line 1: it is no public key",
		read(t, sshKey(t, "ecdsa", "")+".pub"): "keys of SSH of the kind ecdsa-sha2-nistp256 cannot encrypt",
		"ssh-ed25519 AAAA":                     "line 1: malformed SSH recipient",
		read(t, sshKey(t, "rsa", "", "-b", "1024")+".pub"):       "RSA key size is too small",
		"age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639":     "keys of plugins for age",
		public + "\n# again\n" + public:                          "line 3: it is the key of line 1 again",
		public + "\n# pq\n" + hybrid.Recipient().String() + "\n": "line 3 is a post-quantum key (age1pq1) and line 1 is not",
	} {
		_, err := ParseRecipients(strings.NewReader(lines))
		if err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("%v (%s), want %s", err, hint.Of(err), want)
			continue
		}
		for _, key := range []string{secret, hybrid.String()} {
			if text := strings.ToUpper(err.Error() + hint.Of(err)); strings.Contains(text, key[20:30]) || strings.Contains(text, "OPENSSH") {
				t.Errorf("shown: %v", err)
			}
		}
	}
}

func TestOneRecipientIsEnoughOnlyIfTheUserSaysSo(t *testing.T) {
	t.Parallel()
	two := recipientsOf(t, newKey(t).Recipient().String(), newKey(t).Recipient().String())
	for _, c := range []struct {
		r    Recipients
		one  bool
		want string
	}{
		{two, false, ""}, {two, true, ""}, {two[:1], true, ""},
		{two[:1], false, "if its secret key is lost, the backups are lost"}, {nil, true, "no public key to encrypt for"},
	} {
		err := c.r.Check(c.one)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || hint.Of(err) == "") {
			t.Errorf("%d, %v: %v, want %q", len(c.r), c.one, err, c.want)
		}
	}
}

func TestRecipientsAreReadOnlyFromAFileThatOthersCannotChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "recipients")
	_, err := ReadRecipients(file)
	if err == nil || !strings.Contains(err.Error(), "does not exist") || !strings.Contains(hint.Of(err), "key new") {
		t.Errorf("missing: %v (%s)", err, hint.Of(err))
	}
	btrfstest.Check(t, os.WriteFile(file, []byte("# daily\n"+newKey(t).Recipient().String()+"\n"), 0o644))
	r, err := ReadRecipients(file)
	btrfstest.Check(t, err)
	if len(r) != 1 || r[0].Name != "daily" {
		t.Errorf("%+v", r)
	}
	for _, mode := range []os.FileMode{0o664, 0o646} {
		btrfstest.Check(t, os.Chmod(file, mode))
		if _, err := ReadRecipients(file); err == nil || !strings.Contains(err.Error(), "can be changed by other users") || hint.Of(err) == "" {
			t.Errorf("%o: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 {
		btrfstest.Check(t, os.Chmod(file, 0o644))
		btrfstest.Check(t, os.Chown(file, 65534, 65534))
		if _, err := ReadRecipients(file); err == nil || !strings.Contains(err.Error(), "belongs to another user") || hint.Of(err) == "" {
			t.Errorf("%v", err)
		}
	}
	_, err = run(t, nil, "mkfifo", filepath.Join(dir, "pipe"))
	btrfstest.Check(t, err)
	for _, name := range []string{dir, filepath.Join(dir, "pipe"), "/dev/null"} {
		if _, err := ReadRecipients(name); err == nil || !strings.Contains(err.Error(), "is no file of public keys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
