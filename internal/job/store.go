package job

import (
	"cmp"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"

	"golang.org/x/time/rate"
)

// Store is a store of encrypted streams: on a server, or in a folder.
type Store struct {
	URL    string     // of a server; "": a folder
	Target ssh.Target // the machine of the folder; zero: this one
	Path   string     // of the folder, absolute
}

func (Store) isPlace() {}

const (
	storeScheme    = "store:"
	storeSSHScheme = "store+ssh://"
)

func (s Store) String() string {
	switch {
	case s.URL != "":
		return s.URL
	case s.Target != (ssh.Target{}):
		return storeSSHScheme + s.Target.String() + s.Path
	}
	return storeScheme + s.Path
}

// parseStore reads the name of a store.
func parseStore(text string) (Place, error) {
	if strings.HasPrefix(text, object.Scheme) {
		at, err := object.ParsePlace(text)
		if err != nil {
			return nil, err
		}
		return Store{URL: at.String()}, nil
	}
	if rest, isSSH := strings.CutPrefix(text, storeSSHScheme); isSSH {
		machine, folder, _ := strings.Cut(rest, "/")
		target, err := parseTarget(text, machine)
		if err != nil {
			return nil, err
		}
		return Store{Target: target, Path: path.Clean("/" + folder)}, nil
	}
	folder := strings.TrimPrefix(text, storeScheme)
	if !strings.HasPrefix(folder, "/") {
		return nil, badPlace(text, "the path of a store begins with a slash", "use store:/FOLDER, or ./"+text+" for a path")
	}
	return Store{Path: path.Clean(folder)}, nil
}

// Stores has the settings for destinations that are stores.
type Stores struct {
	Recipients         string // file of the public keys; "" is seal.RecipientsFile
	OneRecipient       bool   // a single one is enough
	Credentials        string // file; "" is the environment, unless there is a command
	CredentialsCommand string // for a shell
	PartSize           int64  // bytes
	MaxParentAge       time.Duration
	Lock               object.LockMode
	HideNames          bool
	Classes            string // of storage, such as y=GLACIER_IR,q=STANDARD_IA
}

const defaultParentAge = 400 * 24 * time.Hour

// check complains of what does not fit a store.
func (s *Stores) check(c *Complaints) {
	if s.PartSize != 0 && (s.PartSize < store.MinPartSize || s.PartSize > store.MaxPartSize) {
		c.Add("part-size", "use 1M to 1G", "%d bytes are out of range", s.PartSize)
	}
	if s.Credentials != "" && s.CredentialsCommand != "" {
		c.Add("credentials-command", "leave out one of them", "is there beside --credentials")
	}
	switch s.Lock {
	case object.Unlocked, object.Governance, object.Compliance:
	default:
		c.Add("object-lock", "use governance or compliance", "%s is unknown", s.Lock)
	}
	if _, err := s.classes(); err != nil {
		c.Add("storage-class", "such as y=GLACIER_IR,q=STANDARD_IA", "%v", err)
	}
}

// classes reads the storage classes, by the letter of the longest period of which a backup is the first.
func (s *Stores) classes() (map[string]string, error) {
	of := make(map[string]string)
	for term := range strings.SplitSeq(s.Classes, ",") {
		unit, class, ok := strings.Cut(strings.TrimSpace(term), "=")
		switch {
		case s.Classes == "":
			return of, nil
		case !ok || class == "" || strings.ContainsAny(class, " ="):
			return nil, fmt.Errorf("%q is not UNIT=CLASS", term)
		case len(unit) != 1 || !strings.Contains("hdwmqy", unit):
			return nil, fmt.Errorf("%q is no unit: h, d, w, m, q or y", unit)
		case of[unit] != "":
			return nil, fmt.Errorf("%s has two classes", unit)
		}
		of[unit] = class
	}
	return of, nil
}

// with gives the settings with those of others that are not zero.
func (s Stores) with(o Stores) Stores {
	if o.Credentials != "" || o.CredentialsCommand != "" {
		s.Credentials, s.CredentialsCommand = o.Credentials, o.CredentialsCommand
	}
	s.Recipients, s.Classes = cmp.Or(o.Recipients, s.Recipients), cmp.Or(o.Classes, s.Classes)
	s.PartSize, s.Lock = cmp.Or(o.PartSize, s.PartSize), cmp.Or(o.Lock, s.Lock)
	return s
}

// KeysAt gives the names of the settings that a store may have for itself, of a destination that is one.
func KeysAt(p Place) []string {
	if _, ok := p.(Store); !ok {
		return nil
	}
	return []string{"recipients", "credentials", "credentials-command", "part-size", "object-lock", "storage-class"}
}

// StoresAt gives the settings for a destination, or for what is in it.
func (s *Spec) StoresAt(p Place) Stores { return s.Stores.with(s.at(p).Stores) }

// placeOf gives where a store lies, to which as many bytes a second go as the limit tells, and from which if it is a server.
func (s Stores) placeOf(p Store, m *Machines, log *slog.Logger, limit rate.Limit) offsite.Place {
	var limiter *rate.Limiter
	if limit > 0 {
		limiter = transport.NewLimiter(limit)
	}
	if p.URL != "" {
		return offsite.Server{Name: p.URL, S3Options: object.S3Options{Log: log, LockMode: s.Lock, Limit: limiter,
			Credentials: object.Credentials{File: s.Credentials, Command: s.CredentialsCommand}}}
	}
	at := Place(Local{p.Path})
	if p.Target != (ssh.Target{}) {
		at = Machine{p.Target, p.Path}
	}
	h, folder := m.At(at)
	return offsite.Folder{Name: p.String(), Host: h, Path: folder, Limit: limiter}
}

// storeTo gives a destination that is a store.
func (b *builder) storeTo(p Store, source stream.Sender) (*offsite.Destination, error) {
	s := b.StoresAt(p)
	recipients, err := s.recipients()
	if err != nil {
		return nil, err
	}
	signer, err := seal.LoadSigner(filepath.Join(b.State, seal.SigningKeyFile))
	if err != nil {
		return nil, err
	}
	signers, _, err := seal.SignersIn(b.State)
	if err != nil {
		return nil, err
	}
	classes, err := s.classes()
	if err != nil {
		return nil, err
	}
	o := offsite.Options{Progress: b.Progress, Now: b.Now, Program: b.Version, MaxParentAge: cmp.Or(s.MaxParentAge, defaultParentAge),
		Options: store.Options{Log: b.Log, Recipients: recipients, Signer: signer, State: b.State, PartSize: s.PartSize,
			Trusts: signers.Trusts}}
	if p.URL != "" { // folders can neither
		o.Locks, o.Classes = s.Lock != object.Unlocked, classes
	}
	if s.HideNames {
		o.HideNames = signer.Secret("names")
	}
	place := s.placeOf(p, b.Machines, b.Log, b.limitTo(p))
	if folder, ok := place.(offsite.Folder); ok {
		folder.MountPoint = cmp.Or(b.at(p).MountPoint, b.Copy.MountPoint)
		place = folder
	}
	return offsite.NewDestination(place, source, o), nil
}

// CheckFiles complains of files that a store needs, where they cannot be used as they are. Nothing is made, and no command is run.
func (s Stores) CheckFiles(p Store, state string) (c Complaints) {
	add := func(setting string, err error) {
		if err != nil {
			c = append(c, hint.Complaint{Setting: setting, Err: err})
		}
	}
	_, err := s.recipients()
	add("recipients", err)
	if p.URL != "" && s.Credentials != "" {
		add("credentials", object.Credentials{File: s.Credentials}.Check())
	}
	_, _, err = seal.SignersIn(state)
	add("destination", err)
	return c
}

// recipients reads the public keys.
func (s Stores) recipients() (r seal.Recipients, err error) {
	if r, err = seal.ReadRecipients(cmp.Or(s.Recipients, seal.RecipientsFile)); err != nil {
		return r, err
	}
	return r, r.Check(s.OneRecipient)
}
