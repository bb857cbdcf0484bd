package serve

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// checkBucket refuses a client with limits what is no folder of objects. In an empty one, what makes it one comes first: so no other
// folder becomes one.
func (l Limits) checkBucket(f *object.Folder, putting string) error {
	if l == (Limits{}) {
		return nil
	}
	for _, key := range []string{object.FormatKey, object.CanaryKey} {
		if found, err := holds(f, key); found || err != nil {
			return err
		}
	}
	empty, err := f.Empty()
	if err == nil && (!empty || putting != "" && putting != object.FormatKey && putting != object.CanaryKey) {
		err = hint.New(fmt.Errorf("refused: %s is no folder of stored backups: %w", f, fs.ErrPermission), "name an empty folder, or the one of before")
	}
	return err
}

// holds tells whether there is an object.
func holds(f *object.Folder, key string) (bool, error) {
	body, _, _, err := f.GetFile(key, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

// checkRead gives a client that may only send backups no more than that needs: what tells of a store and of its backups.
func (l Limits) checkRead(key string) error {
	tells := !strings.Contains(key, "/") || strings.HasPrefix(key, object.IndexPrefix) ||
		strings.HasPrefix(key, object.BackupsPrefix) && strings.HasSuffix(key, "/"+object.ManifestName)
	if l.ReceiveOnly && !tells {
		return hint.New(fmt.Errorf("refused: this key may not read %s: %w", key, fs.ErrPermission), "its agent runs with --receive-only")
	}
	return nil
}

// checkReplace refuses to replace what cannot be made again. Before there is a store, that is nothing.
func (l Limits) checkReplace(f *object.Folder, key string) error {
	if !l.AppendOnly || strings.HasPrefix(key, object.IndexPrefix) {
		return nil
	}
	if key == object.CanaryKey {
		if made, err := holds(f, object.FormatKey); !made {
			return err
		}
	}
	return hint.New(fmt.Errorf("refused: this key may not replace %s: %w", key, fs.ErrPermission), "its agent runs with --append-only")
}

// bucket gives the folder of objects that is a directory.
func (s *server) bucket(d *local.Dir, putting string) (*object.Folder, error) {
	f, err := d.Objects()
	if err != nil {
		return nil, err
	}
	if err := s.o.Limits.checkBucket(f, putting); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var errPageFull = errors.New("the page is full")

func (s *server) listObjects(ctx context.Context, d *local.Dir, c protocol.ListObjectsCall) (reply protocol.ListObjectsReply, err error) {
	f, err := s.bucket(d, "")
	if err != nil {
		return reply, err
	}
	defer f.Close()
	err = f.ListAfter(ctx, c.Prefix, c.After, func(i object.Info) error {
		if reply.More = len(reply.Objects) == protocol.ObjectsPage; reply.More {
			return errPageFull
		}
		reply.Objects = append(reply.Objects, i)
		return nil
	})
	if err == errPageFull {
		err = nil
	}
	return reply, err
}

func (s *server) statObject(ctx context.Context, d *local.Dir, c protocol.ObjectCall) (object.Info, error) {
	f, err := s.bucket(d, "")
	if err != nil {
		return object.Info{}, err
	}
	defer f.Close()
	return f.Stat(ctx, object.Ref{Key: c.Key})
}

func (s *server) readObject(ctx context.Context, d *local.Dir, c protocol.ReadObjectCall) (reply protocol.ReadObjectReply, err error) {
	if err := s.o.Limits.checkRead(c.Key); err != nil {
		return reply, err
	}
	f, err := s.bucket(d, "")
	if err != nil {
		return reply, err
	}
	defer f.Close()
	body, size, file, err := f.GetFile(c.Key, c.Offset)
	if err != nil {
		return reply, err
	}
	defer body.Close()
	if c.Same != "" && c.Same != file {
		return reply, fmt.Errorf("reading %s of %s: another object has got the key meanwhile", c.Key, f)
	}
	reply.Size, reply.File = size, file
	reply.Content, err = io.ReadAll(io.LimitReader(body, max(0, min(c.Length, protocol.ObjectPiece))))
	return reply, err
}

func (s *server) deleteObjects(ctx context.Context, d *local.Dir, c protocol.DeleteObjectsCall) (none protocol.Nothing, err error) {
	if s.o.Limits.AppendOnly {
		return none, hint.New(fmt.Errorf("refused: this key may not delete objects of %s: %w", d.Status().Path, fs.ErrPermission),
			"its agent runs with --append-only: delete with another key, or on that machine")
	}
	f, err := s.bucket(d, "")
	if err != nil {
		return none, err
	}
	defer f.Close()
	return none, f.Delete(ctx, c.Keys)
}

// upload is an object that a client sends in pieces.
type upload struct {
	*object.Upload
	folder *object.Folder
	sum    []byte
}

func (u *upload) end() error   { return errors.Join(u.End(u.sum), u.folder.Close()) }
func (u *upload) abort() error { return errors.Join(u.Abort(), u.folder.Close()) }

// mostUploads is how many a client can have under way.
const mostUploads = 64

// putObject begins to store an object, and ends it if it is small. What is not at its end goes with the connection.
func (s *server) putObject(ctx context.Context, d *local.Dir, c protocol.PutObjectCall) (reply protocol.PutObjectReply, err error) {
	if s.confine != nil {
		if err := s.confine.mustBeOurs(d); err != nil {
			return reply, err
		}
	}
	f, err := s.bucket(d, c.Key)
	if err != nil {
		return reply, err
	}
	if c.Replace {
		if err := s.o.Limits.checkReplace(f, c.Key); err != nil {
			return reply, errors.Join(err, f.Close())
		}
	}
	begun, err := f.Begin(c.Key, c.Size, object.PutOptions{Replace: c.Replace})
	if err != nil {
		defer f.Close()
		return protocol.PutObjectReply{Done: true}, unlessSame(ctx, f, c, err)
	}
	u := &upload{begun, f, c.SHA256}
	if err := cmp.Or(u.Write(c.Content, 0), context.Cause(ctx)); err != nil {
		return reply, errors.Join(err, u.abort())
	}
	if int64(len(c.Content)) == c.Size {
		return protocol.PutObjectReply{Done: true}, u.end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.uploads) >= mostUploads {
		return reply, errors.Join(fmt.Errorf("storing %s of %s: %d objects are being stored already", c.Key, f, mostUploads), u.abort())
	}
	s.lastUpload++
	s.uploads[s.lastUpload] = u
	return protocol.PutObjectReply{ID: s.lastUpload}, nil
}

// unlessSame forgives that an object is there, if it is what an earlier attempt stored, of which the reply was lost.
func unlessSame(ctx context.Context, f *object.Folder, c protocol.PutObjectCall, err error) error {
	if !c.Again || !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, statErr := f.Stat(ctx, object.Ref{Key: c.Key})
	if statErr == nil && there.Size == c.Size && bytes.Equal(there.SHA256, c.SHA256) {
		return nil
	}
	return err
}

var errNoUpload = errors.New("no such object is being stored")

func (s *server) writeObject(_ context.Context, c protocol.WriteObjectCall) (none protocol.Nothing, err error) {
	s.mu.Lock()
	u := s.uploads[c.ID]
	s.mu.Unlock()
	if u == nil {
		return none, errNoUpload
	}
	return none, u.Write(c.Content, c.Offset)
}

func (s *server) endObject(_ context.Context, c protocol.EndObjectCall) (none protocol.Nothing, err error) {
	s.mu.Lock()
	u := s.uploads[c.ID]
	delete(s.uploads, c.ID)
	s.mu.Unlock()
	switch {
	case u == nil:
		return none, errNoUpload
	case c.Complete:
		return none, u.end()
	}
	return none, u.abort()
}

// dropUploads gives up what ended with the connection.
func (s *server) dropUploads() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, u := range s.uploads {
		if err := u.abort(); err != nil {
			s.o.Log.Debug(err.Error())
		}
		delete(s.uploads, id)
	}
}
