package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// user is somebody before a terminal. Type is called for each question, with what the page shows or showed.
type user struct {
	typed func(question, page string) (string, error)
	page  string // the last one
	shown bool
	asked []string
	told  strings.Builder
}

func (u *user) conversation() Conversation {
	return Conversation{
		Ask: func(_ context.Context, question string, _ bool) (string, error) {
			u.asked = append(u.asked, fmt.Sprintf("%s (%v)", question, u.shown))
			return u.typed(question, u.page)
		},
		Show: func(text string) (func() error, error) {
			u.page, u.shown = text, true
			return func() error { u.shown = false; return nil }, nil
		},
		Tell: func(line string) { fmt.Fprintln(&u.told, line) },
		Now:  func() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) },
	}
}

// copyOf gives the key of a page.
func copyOf(page string) string {
	return strings.Join(regexp.MustCompile(`(?m)^ {8}(\S.*)$`).FindAllString(page, -1), " ")
}

// lastGroup types it in another way than it was shown.
func lastGroup(question, page string) (string, error) {
	if !strings.HasPrefix(question, "The last group") {
		return "", nil
	}
	words := strings.Fields(copyOf(page))
	group := strings.ToLower(words[len(words)-1])
	return group[:2] + " - " + group[2:], nil
}

// request gives a Request for files in an empty directory.
func request(t testing.TB) Request {
	t.Helper()
	dir := t.TempDir()
	return Request{Output: filepath.Join(dir, "daily"), Recipients: filepath.Join(dir, "etc", "recipients")}
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	btrfstest.Check(t, err)
	return string(content)
}

// left gives the files below a directory.
func left(t testing.TB, r Request) (files []string) {
	t.Helper()
	dir := filepath.Dir(filepath.Dir(r.Recipients))
	btrfstest.Check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return files
}

func TestBothKeysReadWhatIsEncrypted(t *testing.T) {
	t.Parallel()
	u, r := &user{typed: lastGroup}, request(t)
	c := u.conversation()
	btrfstest.Check(t, c.New(t.Context(), r))
	recipients, err := seal.ReadRecipients(r.Recipients)
	btrfstest.Check(t, err)
	btrfstest.Check(t, recipients.Check(false))
	host, _ := os.Hostname()
	daily, err := seal.Prompt{}.ReadIdentities(t.Context(), r.Output)
	btrfstest.Check(t, err)
	typed, err := seal.Prompt{Input: strings.NewReader(copyOf(u.page))}.ReadIdentities(t.Context(), seal.Typed)
	btrfstest.Check(t, err)
	told := u.told.String()
	for name, ids := range map[string]seal.Identities{"daily key": daily, "paper key": typed} {
		u.told.Reset()
		btrfstest.Check(t, c.Test(r.Recipients, ids))
		line := map[string]int{"daily key": 5, "paper key": 8}[name]
		if got, want := u.told.String(), fmt.Sprintf("this is the %s of %s, 2026-11-30 (%s, line %d): it reads what is encrypted now\n", name, host, r.Recipients, line); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if info, err := os.Stat(r.Output); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(r.Recipients); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	for _, want := range []string{"If both keys are lost, the backups are lost. Nobody can help.\n", "away from this machine", "key test -i " + r.Output} {
		if !strings.Contains(told, want) {
			t.Errorf("%s\nlacks %s", told, want)
		}
	}
	if want := []string{"Press Enter when you have copied it: (true)", "The last group of the paper key, from your copy: (false)"}; fmt.Sprint(u.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q", u.asked)
	}
	wantNoSecret(t, u, r, told)
}

// wantNoSecret fails if a part of a secret key is anywhere but where it is to be.
func wantNoSecret(t *testing.T, u *user, r Request, told string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(read(t, r.Output)), "\n")
	open := strings.ToUpper(told + strings.Join(u.asked, "\n") + read(t, r.Recipients))
	secrets := append(seal.Groups(lines[len(lines)-1]), strings.Fields(copyOf(u.page))...)
	if len(secrets) != 21 {
		t.Fatalf("%q", secrets)
	}
	for _, secret := range secrets {
		if strings.Contains(open, secret) && len(secret) > 4 || strings.Contains(open, "SECRET-KEY") {
			t.Errorf("%s is in\n%s", secret, open)
		}
	}
}

func TestAPaperKeyThatWasNotCopiedIsNoticed(t *testing.T) {
	t.Parallel()
	n := 0
	u, r := &user{}, request(t)
	u.typed = func(question, page string) (string, error) {
		if !strings.HasPrefix(question, "The last group") {
			return "", nil
		}
		if n++; n < 3 {
			return "QQQQ"[:n], nil
		}
		if files := left(t, r); files != nil {
			t.Errorf("before it was typed back there is %q", files)
		}
		return lastGroup(question, page)
	}
	btrfstest.Check(t, u.conversation().New(t.Context(), r))
	if n != 3 || len(u.asked) != 8 || u.asked[2] != "That is not the last group. Press Enter to see the key again: (false)" {
		t.Errorf("%d: %q", n, u.asked)
	}
}

func TestNothingIsKeptOfKeysThatAreNotFinished(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	for _, stop := range []error{io.EOF, interrupted} {
		for at := range 4 {
			n := 0
			u, r := &user{}, request(t)
			u.typed = func(string, string) (string, error) {
				if n++; n > at {
					return "", stop
				}
				return "wrong", nil
			}
			err := u.conversation().New(t.Context(), r)
			if files := left(t, r); err == nil || files != nil || u.shown || u.told.Len() > 0 {
				t.Errorf("%v at %d: %v, left %q, shown %v, told %s", stop, at, err, files, u.shown, &u.told)
			}
			if stop == io.EOF && !strings.Contains(err.Error(), "no key was kept") || stop == interrupted && !errors.Is(err, stop) {
				t.Errorf("%v", err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	u, r := &user{}, request(t)
	u.typed = func(question, page string) (string, error) {
		cancel()
		return lastGroup(question, page)
	}
	if err := u.conversation().New(ctx, r); !errors.Is(err, context.Canceled) || left(t, r) != nil {
		t.Errorf("%v, left %q", err, left(t, r))
	}
	u, r = &user{}, request(t)
	r.Paper = filepath.Join(filepath.Dir(r.Output), "paper")
	btrfstest.Check(t, os.MkdirAll(filepath.Dir(r.Recipients), 0o700))
	all, err := u.conversation().make(r)
	btrfstest.Check(t, err)
	btrfstest.Check(t, os.WriteFile(r.Recipients, []byte("other"), 0o600)) // meanwhile
	if err := write(r, all, "x"); err == nil || len(left(t, r)) != 1 || read(t, r.Recipients) != "other" {
		t.Errorf("%v, left %q", err, left(t, r))
	}
}

func TestNewKeysReplaceNothing(t *testing.T) {
	t.Parallel()
	u, r := &user{typed: lastGroup}, request(t)
	c := u.conversation()
	btrfstest.Check(t, c.New(t.Context(), r))
	before := read(t, r.Output)
	again := r
	refuse := func(r Request, want string) {
		t.Helper()
		asked := len(u.asked)
		if err := c.New(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" || len(u.asked) != asked {
			t.Errorf("%v (%s), want %s, asked %q", err, hint.Of(err), want, u.asked[asked:])
		}
	}
	refuse(again, r.Output+" is there already")
	again.Output += "2"
	refuse(again, "has public keys already")
	again.Paper, again.Add = r.Output, true
	refuse(again, r.Output+" is there already")
	again.Paper, again.Output = "", filepath.Join(r.Output+".d", "key")
	refuse(again, "cannot be written")
	btrfstest.Check(t, os.Chmod(r.Recipients, 0o666))
	again.Output = r.Output + "2"
	refuse(again, "can be changed by other users")
	btrfstest.Check(t, os.Chmod(r.Recipients, 0o644))
	if files := left(t, r); len(files) != 2 || read(t, r.Output) != before {
		t.Errorf("left %q", files)
	}
	btrfstest.Check(t, c.New(t.Context(), again))
	again.Output = "" // one more paper key
	btrfstest.Check(t, c.New(t.Context(), again))
	recipients, err := seal.ReadRecipients(r.Recipients)
	if err != nil || len(recipients) != 5 || !strings.HasPrefix(recipients[4].Name, "paper key of ") {
		t.Errorf("%v, %v", recipients, err)
	}
	if !strings.Contains(u.told.String(), "If all 5 keys are lost") {
		t.Errorf("%s", &u.told)
	}
}

func TestOneKeyAndAPaperFileNeedNoTerminal(t *testing.T) {
	t.Parallel()
	u, r := &user{}, request(t)
	c := u.conversation()
	c.Ask = nil
	if err := c.New(t.Context(), r); err == nil || !strings.Contains(err.Error(), "no terminal") || !strings.Contains(hint.Of(err), "--paper FILE") || left(t, r) != nil {
		t.Errorf("%v", err)
	}
	r.One = true
	btrfstest.Check(t, c.New(t.Context(), r))
	if files := left(t, r); len(files) != 2 || !strings.Contains(u.told.String(), "If this key is lost, the backups are lost. Nobody can help.") {
		t.Errorf("left %q, told %s", files, &u.told)
	}
	r = request(t)
	r.Paper = filepath.Join(filepath.Dir(r.Output), "paper")
	btrfstest.Check(t, c.New(t.Context(), r))
	ids, err := seal.Prompt{}.ReadIdentities(t.Context(), r.Paper)
	btrfstest.Check(t, err)
	btrfstest.Check(t, c.Test(r.Recipients, ids))
}

func TestAForeignKeyIsToldFromOneOfTheRecipients(t *testing.T) {
	t.Parallel()
	u, r, other := &user{typed: lastGroup}, request(t), request(t)
	c := u.conversation()
	btrfstest.Check(t, c.New(t.Context(), r))
	btrfstest.Check(t, c.New(t.Context(), other))
	ids, err := seal.Prompt{}.ReadIdentities(t.Context(), other.Output)
	btrfstest.Check(t, err)
	u.told.Reset()
	if err := c.Test(r.Recipients, ids); err == nil || !strings.Contains(err.Error(), "belongs to no public key in") || hint.Of(err) == "" || u.told.Len() > 0 {
		t.Errorf("%v, told %s", err, &u.told)
	}
	state := t.TempDir()
	signer, err := seal.LoadSigner(filepath.Join(state, seal.SigningKeyFile))
	btrfstest.Check(t, err)
	btrfstest.Check(t, c.List(r.Recipients, state))
	if want := "# signatures count of " + signer.PublicKey() + " this machine\n"; !strings.HasSuffix(u.told.String(), want) {
		t.Errorf("%s\nlacks %s", &u.told, want)
	}
	recipients, err := seal.ParseRecipients(strings.NewReader(u.told.String()))
	if err != nil || len(recipients) != 2 || !strings.HasPrefix(recipients[1].Name, "paper key of ") {
		t.Errorf("%v of %s", err, &u.told)
	}
}

func TestThePageOfThePaperKeyFitsATerminal(t *testing.T) {
	t.Parallel()
	u, r := &user{typed: lastGroup}, request(t)
	btrfstest.Check(t, u.conversation().New(t.Context(), r))
	lines := strings.Split(u.page, "\n")
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	for line := range strings.Lines(u.told.String()) {
		if len(line) > 80 && !strings.Contains(line, r.Output) && !strings.Contains(line, r.Recipients) {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
