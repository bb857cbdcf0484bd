package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// typing gives a Prompt to which a user types lines. What was asked is written to asked.
func typing(asked *[]string, lines ...string) Prompt {
	return Prompt{Ask: func(_ context.Context, question string, secret bool) (string, error) {
		*asked = append(*asked, fmt.Sprintf("%v %s", secret, question))
		if len(lines) == 0 {
			return "", io.EOF
		}
		line := lines[0]
		lines = lines[1:]
		return line, nil
	}}
}

func keyFile(t testing.TB, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	btrfstest.Check(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

// lockedKey gives a file of keys that is encrypted with a passphrase, as age makes it.
func lockedKey(t testing.TB, content, passphrase string, armored bool) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.age")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	btrfstest.Check(t, err)
	defer f.Close()
	r, err := age.NewScryptRecipient(passphrase)
	btrfstest.Check(t, err)
	r.SetWorkFactor(10)
	var out io.WriteCloser = f
	if armored {
		out = armor.NewWriter(f)
	}
	w, err := age.Encrypt(out, r)
	btrfstest.Check(t, err)
	_, err = io.WriteString(w, content)
	btrfstest.Check(t, errors.Join(err, w.Close()))
	if armored {
		btrfstest.Check(t, out.Close())
	}
	return file
}

func TestSecretKeysOfAllKindsDecrypt(t *testing.T) {
	t.Parallel()
	key, hybrid := newKey(t), func() *age.HybridIdentity {
		i, err := age.GenerateHybridIdentity()
		btrfstest.Check(t, err)
		return i
	}()
	public, text := key.Recipient().String(), "# created: today\n"+key.String()+"\n"
	ssh, rsa := sshKey(t, "ed25519", ""), sshKey(t, "rsa", "")
	lockedSSH, lockedRSA, pem := sshKey(t, "ed25519", "sesame"), sshKey(t, "rsa", "sesame"), sshKey(t, "rsa", "sesame", "-m", "PEM")
	for name, c := range map[string]struct {
		file, public string
		typed        []string
	}{
		"age":                {keyFile(t, text), public, nil},
		"several":            {keyFile(t, newKey(t).String()+"\n"+text), public, nil},
		"hybrid":             {keyFile(t, hybrid.String()), hybrid.Recipient().String(), nil},
		"locked":             {lockedKey(t, text, "sesame", false), public, []string{"sesame"}},
		"locked, armored":    {lockedKey(t, text, "sesame", true), public, []string{"sesame"}},
		"locked, second try": {lockedKey(t, text, "sesame", false), public, []string{"", "wrong", "sesame"}},
		"ed25519":            {ssh, read(t, ssh+".pub"), nil},
		"rsa":                {rsa, read(t, rsa+".pub"), nil},
		"locked ed25519":     {lockedSSH, read(t, lockedSSH+".pub"), []string{"wrong", "sesame"}},
		"locked rsa":         {lockedRSA, read(t, lockedRSA+".pub"), []string{"sesame"}},
		"locked PEM":         {pem, read(t, pem+".pub"), []string{"sesame"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			ids, err := typing(&asked, c.typed...).ReadIdentities(t.Context(), c.file)
			btrfstest.Check(t, err)
			r := recipientsOf(t, c.public)
			if got := decrypt(t, encrypt(t, []byte("plain"), r), ids); got != "plain" {
				t.Errorf("decrypted %q", got)
			}
			if m := r.Matching(ids); len(m) != 1 {
				t.Errorf("it is the key of %v", m)
			}
			if len(asked) != len(c.typed) || len(asked) > 0 && asked[0] != "true Passphrase of "+c.file+":" {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func TestWhatIsNoSecretKeyIsRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	readable := keyFile(t, key.String())
	btrfstest.Check(t, os.Chmod(readable, 0o640))
	locked, lockedSSH := lockedKey(t, key.String(), "sesame", false), sshKey(t, "ed25519", "sesame")
	forKey := keyFile(t, string(encrypt(t, []byte(key.String()), recipientsOf(t, key.Recipient().String()))))
	var asked []string
	three, gone := typing(&asked, "a", "b", "c", "sesame"), typing(&asked)
	for _, c := range []struct {
		p          Prompt
		file, want string
	}{
		{Prompt{}, readable, "other users can read it"},
		{Prompt{}, t.TempDir(), "is a directory"},
		{Prompt{}, keyFile(t, ""), "no secret key in it"},
		{Prompt{}, keyFile(t, "# a\n"+key.Recipient().String()), "line 2: this is a public key"},
		{Prompt{}, keyFile(t, "AGE-PLUGIN-YUBIKEY-1QQQQQQQQQQQQ"), "plugins for age, such as those of a YubiKey, cannot be used yet"},
		{Prompt{}, keyFile(t, key.String()[:70]), "has 54 letters behind AGE-SECRET-KEY-1, and should have 58"},
		{Prompt{}, sshKey(t, "ecdsa", ""), "keys of SSH of this kind cannot decrypt"},
		{Prompt{}, locked, "it has a passphrase, and there is no terminal"},
		{Prompt{}, lockedSSH, "it has a passphrase, and there is no terminal"},
		{Prompt{}, forKey, "it is encrypted for a key"},
		{Prompt{}, Typed, "there is no terminal"},
		{three, locked, "the passphrase is wrong"},
		{gone, locked, "its passphrase was not typed"},
		{gone, lockedSSH, "its passphrase was not typed"},
		{gone, Typed, "no secret key was typed"},
		{Prompt{}, filepath.Join(t.TempDir(), "none"), "does not exist"},
	} {
		_, err := c.p.ReadIdentities(t.Context(), c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.file, err, c.want)
		} else if strings.Contains(strings.ToUpper(err.Error()+hint.Of(err)), key.String()[20:26]) {
			t.Errorf("shown: %v", err)
		}
	}
}

func TestAKeyIsReadHoweverItIsTyped(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	text, groups := key.String(), Groups(key.String())
	if len(groups) != 10 || len(groups[9]) != 4 || "AGE-SECRET-KEY-1"+strings.Join(groups, "") != text {
		t.Fatalf("%q of %s", groups, text)
	}
	half := strings.Join(groups[:5], " ")
	for _, lines := range [][]string{
		{text}, {strings.ToLower(text)}, {"  age secret-key 1 " + strings.Join(groups, "-")}, {strings.Join(groups, " ")},
		{half, strings.Join(groups[5:], " ")}, append([]string{"AGE-SECRET-KEY-1"}, groups...),
	} {
		var asked []string
		ids, err := typing(&asked, lines...).ReadIdentities(t.Context(), Typed)
		if err != nil || public(ids[0]) != key.Recipient().String() || len(asked) != len(lines) {
			t.Errorf("%q: %v, asked %q", lines, err, asked)
		}
	}
	ids, err := Prompt{Input: strings.NewReader(text + "\n")}.ReadIdentities(t.Context(), Typed)
	if err != nil || public(ids[0]) != key.Recipient().String() {
		t.Errorf("from a pipe: %v", err)
	}
}

func TestAMistypedKeyIsNoticedAndTheGroupTold(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	text := key.String()
	const prefix = len(keyPrefix)
	for n := prefix; n < len(text); n++ {
		other := "Q"
		if text[n] == 'Q' {
			other = "P"
		}
		_, err := ParseKey(text[:n] + other + text[n+1:])
		if want := fmt.Sprintf("a letter of the key is wrong, in group %d", (n-prefix)/6+1); err == nil || err.Error() != want {
			t.Errorf("letter %d: %v, want %s", n, err, want)
		}
	}
	if _, err := ParseKey(text[:30] + "1" + text[31:]); err == nil || !strings.Contains(err.Error(), `'1' cannot be in a secret key: see group 3, letter 3`) {
		t.Errorf("%v", err)
	}
	exchanged := strings.Replace(text, text[30:42], text[36:42]+text[30:36], 1)
	if _, err := ParseKey(exchanged); err == nil || !strings.Contains(err.Error(), "several letters") || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
	var asked []string
	_, err := typing(&asked, exchanged, text).ReadIdentities(t.Context(), Typed)
	if err != nil || len(asked) != 2 || !strings.Contains(asked[1], "several letters of the key are wrong") {
		t.Errorf("%v, asked %q", err, asked)
	}
}

func TestTheCanaryTellsWhichRecipientAKeyIs(t *testing.T) {
	t.Parallel()
	daily, paper, other := newKey(t), newKey(t), newKey(t)
	canary, err := Canary(recipientsOf(t, "# daily key", daily.Recipient().String(), "# paper key", paper.Recipient().String()))
	btrfstest.Check(t, err)
	for key, want := range map[*age.X25519Identity]string{daily: "daily key", paper: "paper key"} {
		got, err := TestCanary(canary, Identities{other, key})
		if err != nil || len(got) != 1 || got[0].Name != want || got[0].Line != 0 {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	if _, err := TestCanary(canary, Identities{other}); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("%v", err)
	}
	if _, err := TestCanary(canary, nil); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("%v", err)
	}
	canary[len(canary)-1] ^= 1
	if _, err := TestCanary(canary, Identities{daily}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
}
