// Package received reads subvolumes in a folder that a stream made, or a snapshot: it compares them with manifests of their own, and
// keeps what is known of them, by their UUIDs.
//
// Reading all of a subvolume lets the filesystem compare all checksums. What it does not give is told and passed over.
package received

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"
)

// A Folder is an open folder of subvolumes.
type Folder struct {
	dir   *os.File
	state state.Files
}

// In gives the folder that dir is open on. It borrows dir.
func In(dir *os.File) Folder { return Folder{dir, state.In(dir)} }

// A reading is the way through a subvolume.
type reading struct {
	Folder
	verify.Options
	root     *os.File
	info     btrfs.Subvolume
	found    func(verify.Difference)
	progress func(read, total int64)

	mu          sync.Mutex // guards what follows, and is held while found and progress are called
	read, total int64
	differences int64
	sharing     map[string]bool // names of other subvolumes in the folder that have damage of this one
}

// Verify reads the subvolume of root, so that the filesystem compares its checksums, and compares it with its manifest. If there is none
// it is made, and kept if it is that of a backup.
func (f Folder) Verify(ctx context.Context, root *os.File, info btrfs.Subvolume, o verify.Options, found func(verify.Difference), progress func(read, total int64)) (verify.Verified, error) {
	s := reading{Folder: f, Options: o, root: root, info: info, found: found, progress: progress, sharing: make(map[string]bool)}
	return s.verify(ctx)
}

func (s *reading) verify(ctx context.Context) (v verify.Verified, err error) {
	if s.Since == "" {
		s.Only = nil
	}
	file, err := s.state.Open(state.SubvolumeFile(s.info.UUID))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v, err = s.make(ctx)
	case err == nil:
		defer file.Close()
		v, err = verify.Tree(ctx, s.root, file, s.withContents(), s.tell, s.tellProgress)
		v.Basis = verify.ByManifest
	}
	v.Since = s.Since
	if err != nil {
		return v, err
	}
	if err := s.note(v); err != nil && v.NotKept == "" {
		v.NotKept = err.Error()
	}
	return v, nil
}

// withContents leaves it to Only which contents are read.
func (s *reading) withContents() verify.Options {
	o := s.Options
	o.Fast = false
	return o
}

func (s *reading) tell(d verify.Difference) {
	if d.Damage != nil {
		d.Damage.Shared = s.sharers(d.Path, d.Damage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.differences++
	if d.Damage != nil {
		for _, shared := range d.Damage.Shared {
			name, _, _ := strings.Cut(shared, "/")
			s.sharing[name] = true
		}
	}
	s.found(d)
}

func (s *reading) tellProgress(read, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress(read, total)
}

// bad tells of what the disk does not give.
func (s *reading) bad(path string, at, length int64, err error) {
	d := verify.Difference{Path: path, Kind: verify.Damaged, Damage: &verify.Damage{Offset: at, Length: length}}
	if err != nil {
		d = verify.Difference{Path: path, Kind: verify.NotReadable, Got: verify.Reason(err)}
	}
	s.tell(d)
}

// make reads a subvolume without a manifest.
func (s *reading) make(ctx context.Context) (v verify.Verified, err error) {
	v.Basis = verify.ByReading
	altered, err := s.altered()
	if err != nil {
		return v, err
	}
	if altered {
		s.tell(verify.Difference{Path: ".", Kind: verify.Altered})
	}
	var draft *state.Draft
	out := io.Discard
	isBackup := s.info.ReadOnly && !s.info.ReceivedUUID.IsZero() && !altered
	base, err := s.baseManifest()
	if err != nil {
		return v, err
	}
	if base != nil {
		defer base.Close()
	}
	if whole := s.Part.Of == 0 && (s.Only == nil || base != nil); isBackup && whole {
		if draft, err = s.state.CreateUnnamed(state.SubvolumeFile(s.info.UUID)); err != nil {
			v.NotKept = err.Error()
		} else {
			defer draft.Abandon()
			out = draft
		}
	}
	found, err := s.survey(ctx, base, out)
	v.Files, v.Bytes, v.Differences = found.Files, s.read, s.differences
	if err != nil || draft == nil {
		return v, err
	}
	if s.differences > 0 {
		v.NotKept = "not all of it can be read"
		return v, nil
	}
	if err := keep(draft, s.Folder); err != nil {
		v.NotKept = err.Error()
		return v, nil
	}
	v.Basis = verify.ByMaking
	return v, nil
}

// keep keeps a manifest, and drops those of subvolumes that are gone.
func keep(draft *state.Draft, f Folder) error {
	return errors.Join(draft.Commit(), f.Drop())
}

// altered tells that the subvolume was changed since it was received.
func (s *reading) altered() (bool, error) {
	if s.info.ReceivedUUID.IsZero() {
		return s.info.WasReceived(), nil
	}
	listing, err := btrfs.List(s.dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(listing.InDirectory, func(o btrfs.Subvolume) bool {
		return o.UUID == s.info.UUID && o.AlteredIn != 0
	}), nil
}

// baseManifest opens that of the subvolume since which changes are read; nil: there is none.
func (s *reading) baseManifest() (*os.File, error) {
	if s.Since == "" {
		return nil, nil
	}
	info, err := btrfs.InfoAt(s.dir, s.Since)
	if err != nil {
		return nil, err
	}
	file, err := s.state.Open(state.SubvolumeFile(info.UUID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return file, err
}

// survey writes the manifest.
func (s *reading) survey(ctx context.Context, base *os.File, to io.Writer) (survey.Findings, error) {
	changed := func(e *manifest.Entry) bool {
		_, only := s.Only[e.Path]
		return s.Only == nil || only || e.Links > 1
	}
	chosen := func(e *manifest.Entry) bool {
		return (base != nil || changed(e)) && (s.Part.Has(e.Path) || e.Links > 1)
	}
	o := survey.Options{Base: base, Subvolume: true, Reads: chosen, Bad: s.bad, Unread: func(path string, err error) { s.bad(path, 0, 0, err) },
		Fresh: changed}
	return s.surveyWith(ctx, o, func(e *manifest.Entry) bool { return changed(e) && chosen(e) }, to)
}

// surveyWith counts what is to be read first.
func (s *reading) surveyWith(ctx context.Context, o survey.Options, chosen func(*manifest.Entry) bool, to io.Writer) (survey.Findings, error) {
	total, err := toRead(ctx, s.root, chosen)
	if err != nil {
		return survey.Findings{}, err
	}
	s.total, o.FromDisk = total, true
	o.Progress = func(n int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.read += n
		s.progress(s.read, max(s.total, s.read))
	}
	return survey.Tree(ctx, s.root, o, to)
}

// toRead gives the bytes of the files that are chosen, each once.
func toRead(ctx context.Context, root *os.File, chosen func(*manifest.Entry) bool) (total int64, err error) {
	seen := make(map[uint64]bool) // files with several names
	return total, walk.Tree(ctx, root, walk.Visitor{
		Visit: func(f walk.File) error {
			if f.Type != manifest.Regular || !chosen(&f.Entry) || seen[f.Inode] {
				return nil
			}
			if f.Links > 1 {
				seen[f.Inode] = true
			}
			if !f.Sparse {
				total += f.Size
			}
			return nil
		},
		Closed: func(string, error) error { return nil },
		Lost:   func(string, error) error { return nil },
	})
}

// A Verification tells when a received subvolume was verified, and how.
type Verification struct {
	At          time.Time `json:"at"`              // when what was not read later was read
	How         string    `json:"how"`             // all, a part, what changed, or another one with the same damage
	Since       string    `json:"since,omitempty"` // the verified subvolume
	Differences int64     `json:"differences"`
	Whole       bool      `json:"whole"` // nothing of it was not read, or verified in another one
	// Equal is the UUID of a subvolume that it was found equal to, and Digest that of all that was compared.
	Equal  string `json:"equal,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// note records a verification of a backup.
func (s *reading) note(v verify.Verified) error {
	if s.info.ReceivedUUID.IsZero() || !s.info.ReadOnly {
		return nil
	}
	now := time.Now().Truncate(time.Second)
	n := Verification{At: now, How: "all", Since: s.Since, Differences: v.Differences, Whole: s.Part.Of == 0}
	switch {
	case s.Part.Of > 0:
		n.How = fmt.Sprintf("%d/%d", s.Part.Count, s.Part.Of)
	case s.Since != "":
		n.How, n.At = "changes", s.readAt(now)
	}
	return errors.Join(s.Note(s.info.UUID, n), s.noteSharers(now))
}

// readAt gives when the contents that are not read now were read last.
func (s *reading) readAt(now time.Time) time.Time {
	since, err := btrfs.InfoAt(s.dir, s.Since)
	if err != nil {
		return now
	}
	if was, err := s.Verification(since.UUID); err == nil && was.At.Before(now) {
		return was.At
	}
	return now
}

// noteSharers records that others have the damage, too, lest anything is verified upon them.
func (s *reading) noteSharers(at time.Time) (err error) {
	for name := range s.sharing {
		if info, infoErr := btrfs.InfoAt(s.dir, name); infoErr == nil && info.Received() && info.ReadOnly && info.UUID != s.info.UUID {
			err = errors.Join(err, s.Note(info.UUID, Verification{At: at, How: "shared", Differences: 1}))
		}
	}
	return err
}

// Note records when a received subvolume was verified. What is no whole verification does not replace one, unless it found
// something.
func (f Folder) Note(of btrfs.UUID, n Verification) error {
	if was, err := f.Verification(of); err == nil && was.Whole && !n.Whole && n.Differences == 0 {
		return nil
	}
	content, err := json.MarshalIndent(n, "", "    ")
	if err != nil {
		return err
	}
	draft, err := f.state.CreateUnnamed(state.VerifiedFile(of))
	if err != nil {
		return err
	}
	defer draft.Abandon()
	if _, err := draft.Write(append(content, '\n')); err != nil {
		return err
	}
	return draft.Commit()
}

// Verification tells when a received subvolume was verified last. Without one it is fs.ErrNotExist.
func (f Folder) Verification(of btrfs.UUID) (n Verification, err error) {
	content, err := f.state.Read(state.VerifiedFile(of))
	if err == nil {
		err = json.Unmarshal(content, &n)
	}
	return n, err
}

// Verifications gives those of subvolumes in the folder that are known, by name.
func (f Folder) Verifications(subvolumes []btrfs.Subvolume) map[string]Verification {
	known := make(map[string]Verification)
	verified, _ := f.state.Verified() // what cannot be read is missing
	for _, s := range subvolumes {
		if !s.Received() || !s.ReadOnly || !verified[s.UUID.String()] {
			continue
		}
		if v, err := f.Verification(s.UUID); err == nil {
			known[s.Name] = v
		}
	}
	return known
}

// Drop drops what is known of received subvolumes that are in the folder no more.
func (f Folder) Drop() error {
	if known, err := f.state.KnowsSubvolumes(); err != nil || !known {
		return err
	}
	listing, err := btrfs.List(f.dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, s := range listing.InDirectory {
		there[s.UUID.String()] = true
	}
	return f.state.DropSubvolumes(func(uuid string) bool { return there[uuid] })
}

// Describe writes the manifest of the directory itself, by which it can be compared with a copy of it anywhere. Of what cannot be read,
// found is told.
func (f Folder) Describe(ctx context.Context, to io.Writer, found func(verify.Difference), progress func(read, total int64)) (verify.Verified, error) {
	s := reading{Folder: f, root: f.dir, found: found, progress: progress, sharing: make(map[string]bool)}
	everything := func(*manifest.Entry) bool { return true }
	o := survey.Options{Portable: true, Bad: s.bad, Unread: func(path string, err error) { s.bad(path, 0, 0, err) }}
	findings, err := s.surveyWith(ctx, o, everything, to)
	if err != nil {
		err = fmt.Errorf("reading %s: %w", f.dir.Name(), err)
	}
	return verify.Verified{Files: findings.Files, Bytes: s.read, Differences: s.differences, Basis: verify.ByReading}, err
}
