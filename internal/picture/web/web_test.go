package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/picture"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
)

var check = btrfstest.Check

func newServer(t *testing.T) (s *Server, made *int) {
	made = new(int)
	now := time.Date(2026, 11, 29, 9, 41, 0, 0, time.UTC)
	return &Server{Runtime: t.TempDir(), History: report.History{Dir: t.TempDir(), Limit: report.DefaultLimit}, Now: func() time.Time { return now },
		Make: func(context.Context) picture.Picture {
			*made++
			return picture.Picture{Time: now, Machine: fmt.Sprintf("machine%d", *made)}
		}, hosts: []string{"127.0.0.1:8090", "localhost:8090"}}, made
}

func (s *Server) answer(method, path string, headers ...string) (*http.Response, string) {
	r := httptest.NewRequest(method, "http://127.0.0.1:8090"+path, nil)
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return w.Result(), string(body)
}

func TestOnlyThisMachineIsServed(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8090": "127.0.0.1:8090", "localhost:0": "127.0.0.1:0", "[::1]:80": "[::1]:80", "127.9.9.9:1": "127.9.9.9:1", "[::ffff:127.0.0.1]:80": "127.0.0.1:80",
	} {
		if at, err := parse(text); err != nil || at.String() != want {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
	for text, want := range map[string]string{
		"0.0.0.0:8090": "can be reached from other machines", "192.168.1.2:8090": "can be reached from other machines", "[::]:8090": "can be reached from other machines",
		":8090": "is no address", "8090": "is no address", "nas:8090": "is no address", "127.0.0.1": "is no address", "127.0.0.1:99999": "is no address", "[::1%lo]:80": "is no address", "": "is no address",
	} {
		if at, err := parse(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(hint.Of(err), "use 127.0.0.1:") {
			t.Errorf("%q: %v, %v", text, at, err)
		}
	}
}

func TestWhatAnotherSiteHasABrowserAskIsRefused(t *testing.T) {
	s, made := newServer(t)
	for _, one := range []struct {
		method, path string
		status       int
		headers      []string
	}{
		{"GET", "/", 403, []string{"Host", "evil.example:8090"}}, // whose name leads to 127.0.0.1 by now
		{"GET", "/progress", 403, []string{"Host", "evil.example:8090"}},
		{"GET", "/", 403, []string{"Host", "127.0.0.1"}},
		{"GET", "/", 403, []string{"Host", ""}},
		{"GET", "/", 403, []string{"Origin", "http://evil.example"}},
		{"GET", "/", 403, []string{"Origin", "null"}},
		{"GET", "/", 403, []string{"Origin", "https://127.0.0.1:8090"}},
		{"GET", "/", 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{"GET", "/progress", 403, []string{"Sec-Fetch-Site", "same-site"}}, // another port
		{"POST", "/", 405, nil},
		{"PUT", "/progress", 405, nil},
		{"OPTIONS", "/", 405, nil},
		{"GET", "/etc/passwd", 404, nil},
		{"GET", "/progress/..", 404, nil},
	} {
		r, body := s.answer(one.method, one.path, one.headers...)
		if r.StatusCode != one.status || *made > 0 || strings.Contains(body, "machine") || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%+v: %d %s", one, r.StatusCode, body)
		}
	}
	for _, headers := range [][]string{nil, {"Host", "localhost:8090", "Origin", "http://localhost:8090"}, {"Sec-Fetch-Site", "none"}, {"Sec-Fetch-Site", "same-origin"}} {
		if r, body := s.answer("GET", "/", headers...); r.StatusCode != 200 || !strings.Contains(body, "machine1") {
			t.Errorf("%v: %d", headers, r.StatusCode)
		}
	}
}

func TestABrowserIsToldToLoadAndKeepNothing(t *testing.T) {
	s, _ := newServer(t)
	r, body := s.answer("GET", "/")
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %s", name, r.Header.Get(name))
		}
	}
	policy := r.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || !strings.HasSuffix(policy, "; frame-ancestors 'none'") || policy != picture.Directive(script)+"; frame-ancestors 'none'" {
		t.Error(policy)
	}
	if !strings.Contains(body, "<script>"+script+"</script>") || strings.Contains(body, "http-equiv") {
		t.Error("it is not the script that is allowed, or the policy of a file")
	}
}

func TestThePictureIsMadeAnewWhenItIsOldAndWhenARunHasEnded(t *testing.T) {
	s, made := newServer(t)
	shows := func(claim string, want int) {
		t.Helper()
		if _, body := s.answer("GET", "/"); *made != want || !strings.Contains(body, fmt.Sprintf("machine%d", want)) {
			t.Errorf("%s: it was made %d times", claim, *made)
		}
	}
	shows("first", 1)
	shows("again", 1)
	before, _ := s.answer("GET", "/progress")
	check(t, s.History.Add(t.Context(), report.Run{Time: s.Now()}))
	after, _ := s.answer("GET", "/progress")
	if before.Header.Get("ETag") == after.Header.Get("ETag") {
		t.Error("the page is not told of the end of a run")
	}
	shows("after a run", 2)
	later := s.Now().Add(tooOld + time.Second)
	s.Now = func() time.Time { return later }
	shows("after a minute", 3)
}

func TestARunUnderWayIsShown(t *testing.T) {
	s, _ := newServer(t)
	display, end := underway.Begin(t.Context(), s.Runtime, underway.Run{Job: "home<b>", Began: s.Now().Add(-time.Minute)}, nil)
	for _, path := range []string{"/progress", "/"} {
		if _, body := s.answer("GET", path); !strings.Contains(body, fmt.Sprintf("job home&lt;b&gt;</b> <span class=\"dim\">under way for 60 s, process %d", os.Getpid())) {
			t.Errorf("%s: %s", path, body)
		}
	}
	transfer := display.Start(t.Context(), "/mnt/usb: 1", nil)
	transfer.Add(1 << 20)
	for told := ""; !strings.Contains(told, "/mnt/usb: 1:"); _, told = s.answer("GET", "/progress") {
		time.Sleep(50 * time.Millisecond)
	}
	end()
	if _, body := s.answer("GET", "/progress"); body != "" {
		t.Errorf("at the end: %s", body)
	}
}

func TestTheServerEndsWithItsContext(t *testing.T) {
	s, _ := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended, at := make(chan error), make(chan string, 1)
	go func() { ended <- s.Serve(ctx, "127.0.0.1:0", func(url string) { at <- url }) }()
	url := <-at
	r, err := http.Get(url)
	check(t, err)
	body, err := io.ReadAll(r.Body)
	check(t, err)
	check(t, r.Body.Close())
	if r.StatusCode != 200 || !strings.Contains(string(body), "Backups of machine1") {
		t.Errorf("%d %s", r.StatusCode, body)
	}
	if err := s.Serve(ctx, strings.Trim(strings.TrimPrefix(url, "http://"), "/"), nil); err == nil || !strings.HasSuffix(err.Error(), ": address already in use") {
		t.Errorf("twice: %v", err)
	}
	cancel()
	check(t, <-ended)
	if left, err := filepath.Glob(filepath.Join(s.Runtime, "*")); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}
