package object

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Credentials tell where the key of a server is found: in a file, or else by a command, or else in the environment, in the variables
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
type Credentials struct {
	// File has sections as ~/.aws/credentials, of which AWS_PROFILE names one, or no more than the lines "key = ID" and
	// "secret = SECRET". Only its owner may read it.
	File string
	// Command is run by `sh -c`. It prints what could be in File, or the JSON that AWS's credential_process is to print.
	Command string
}

// access is what a server knows somebody by.
type access struct {
	key, secret, token string
	expires            time.Time // zero: never
}

// Check fails unless the file, if one is named, can be used as it is.
func (c Credentials) Check() error {
	if c.File == "" {
		return nil
	}
	_, err := c.find(context.Background())
	return err
}

// find looks for them.
func (c Credentials) find(ctx context.Context) (access, error) {
	switch {
	case c.File != "":
		a, err := c.read()
		if errors.Is(err, fs.ErrNotExist) { // which would tell that the store is missing
			return access{}, hint.New(fmt.Errorf("the file %s of credentials does not exist", c.File),
				"write two lines to it, key = KEY and secret = SECRET, and then: "+transport.Quote("chmod", "600", c.File))
		}
		if err != nil {
			return access{}, fmt.Errorf("credentials in %s: %w", c.File, lock.Cause(err))
		}
		return a, nil
	case c.Command != "":
		a, err := c.run(ctx)
		if err != nil {
			return access{}, fmt.Errorf("the command for credentials: %w", err)
		}
		return a, nil
	}
	a := access{key: os.Getenv("AWS_ACCESS_KEY_ID"), secret: os.Getenv("AWS_SECRET_ACCESS_KEY"), token: os.Getenv("AWS_SESSION_TOKEN")}
	if a.key == "" || a.secret == "" {
		return access{}, hint.New(errors.New("there are no credentials for the server"), "give them by --credentials FILE, by "+
			"--credentials-command COMMAND, or in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return a, nil
}

func (c Credentials) read() (access, error) {
	file, err := os.Open(c.File)
	if err != nil {
		return access{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return access{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return access{}, hint.New(errors.New("others than its owner have access to the file"),
			"if nobody read the secret: "+transport.Quote("chmod", "600", c.File))
	}
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return access{}, err
	}
	return parseAccess(string(text), cmp.Or(os.Getenv("AWS_PROFILE"), "default"))
}

// run runs the command, of which nothing is logged.
func (c Credentials) run(ctx context.Context) (access, error) {
	machine := transport.Local{Level: slog.LevelDebug, Log: slog.New(slog.DiscardHandler)}
	text, err := machine.OutputOf(ctx, transport.Command{Argv: []string{"sh", "-c", c.Command}, Name: "it"})
	if err != nil {
		return access{}, err
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		return parseProcess(text)
	}
	return parseAccess(text, cmp.Or(os.Getenv("AWS_PROFILE"), "default"))
}

// parseProcess reads what AWS's credential_process prints.
func parseProcess(text string) (access, error) {
	var printed struct {
		AccessKeyID, SecretAccessKey, SessionToken string
		Expiration                                 time.Time
	}
	if err := json.Unmarshal([]byte(text), &printed); err != nil {
		return access{}, hint.New(errors.New("what it printed is no JSON"), // without the secret in it
			`print {"AccessKeyId": "...", "SecretAccessKey": "..."}, or two lines: "key = ID" and "secret = SECRET"`)
	}
	a := access{printed.AccessKeyID, printed.SecretAccessKey, printed.SessionToken, printed.Expiration}
	return a, a.check()
}

// parseAccess reads lines NAME = VALUE, in the section of a profile or in none, or two lines with no more than key and secret.
func parseAccess(text, profile string) (access, error) {
	var a access
	var bare []string
	found := make(map[string]bool) // sections
	section := profile
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[1:len(line)-1]), "profile "))
			found[section] = true
			continue
		}
		if section != profile {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "key", "aws_access_key_id":
			a.key = value
		case "secret", "aws_secret_access_key":
			a.secret = value
		case "token", "aws_session_token":
			a.token = value
		default:
			bare = append(bare, line)
		}
	}
	if len(found) > 0 && !found[profile] {
		return access{}, hint.Newf(fmt.Errorf("there is no profile %s", profile), "choose another one by the variable AWS_PROFILE")
	}
	if a == (access{}) && len(bare) == 2 {
		a = access{key: bare[0], secret: bare[1]}
	}
	return a, errors.Join(lines.Err(), a.check())
}

func (a access) check() error {
	if a.key != "" && a.secret != "" && !strings.ContainsAny(a.key+a.secret+a.token, " \t\r\n") {
		return nil
	}
	return hint.New(errors.New("there is no key with a secret"), `give two lines: "key = ID" and "secret = SECRET"`)
}

// provider hands credentials to the client, and finds them again when they expire.
type provider struct {
	from Credentials

	mu  sync.Mutex
	now access
}

func (p *provider) RetrieveWithCredContext(c *credentials.CredContext) (credentials.Value, error) {
	ctx := context.Background()
	if c != nil && c.Context != nil {
		ctx = c.Context
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expired() {
		a, err := p.from.find(ctx)
		if err != nil {
			return credentials.Value{}, err
		}
		p.now = a
	}
	return credentials.Value{AccessKeyID: p.now.key, SecretAccessKey: p.now.secret, SessionToken: p.now.token,
		Expiration: p.now.expires, SignerType: credentials.SignatureV4}, nil
}

func (p *provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

func (p *provider) IsExpired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expired()
}

// expired is true a little before: a request takes a while to arrive.
func (p *provider) expired() bool {
	const margin = time.Minute
	return !p.now.expires.IsZero() && time.Until(p.now.expires) < margin
}
