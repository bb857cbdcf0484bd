package notify

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// webServer records what it is asked.
type webServer struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
	asked []string // bodies
	types []string
	users []string
}

func newWebServer(t testing.TB, status int) *webServer {
	w := new(webServer)
	w.Server = httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.paths, w.asked, w.types = append(w.paths, r.Method+" "+r.URL.String()), append(w.asked, string(body)), append(w.types, r.Header.Get("Content-Type"))
		user, password, _ := r.BasicAuth()
		w.users = append(w.users, user+":"+password)
		http.Error(answer, r.URL.String(), status)
	}))
	t.Cleanup(w.Close)
	return w
}

func wantPaths(t testing.TB, w *webServer, want ...string) {
	t.Helper()
	if !slices.Equal(w.paths, want) {
		t.Errorf("asked was %q, want %q", w.paths, want)
	}
}

func TestAWebhookGetsTheReportAsJSON(t *testing.T) {
	web := newWebServer(t, 204)
	send(t, newSender(t, Settings{Webhook: web.URL + "/a/../b//?key=1"}), failure())
	wantPaths(t, web, "POST /a/../b//?key=1")
	var got map[string]any
	check(t, json.Unmarshal([]byte(web.asked[0]), &got))
	if got["event"] != "failure" || got["host"] != "laptop" || got["subject"] != "[laptop] backup home: failed" ||
		got["text"] != "home: the disk is full\n" || got["exit_status"] != 1.0 || got["report"].(map[string]any)["outcome"] != "failed" ||
		got["jobs"].([]any)[0] != "home" || got["report_omitted"] != nil || web.types[0] != "application/json" {
		t.Errorf("it got %s as %s", web.asked[0], web.types[0])
	}
}

func TestAReportThatIsTooLargeIsLeftOut(t *testing.T) {
	web := newWebServer(t, 200)
	n := failure()
	n.Body, n.Report = strings.Repeat("x", 10<<20), strings.Repeat("y", 10<<20)
	send(t, newSender(t, Settings{Webhook: web.URL}), n)
	var got envelope
	check(t, json.Unmarshal([]byte(web.asked[0]), &got))
	if len(web.asked[0]) > 1<<20 || !got.Omitted || got.Report != nil || len(got.Text) < maxText-10 {
		t.Errorf("%d bytes, report omitted: %v", len(web.asked[0]), got.Omitted)
	}
}

func TestNtfyGetsTitlePriorityAndTags(t *testing.T) {
	web := newWebServer(t, 200)
	n := failure()
	n.Body = strings.Repeat("ä", 10_000)
	address := strings.Replace(web.URL, "http://", "http://me:token@", 1)
	s := newSender(t, Settings{On: []string{"failure", "success"}, Ntfy: address + "/topic?auth=x"})
	send(t, s, n)
	send(t, s, success())
	wantPaths(t, web, "POST /?auth=x", "POST /?auth=x")
	var got [2]struct {
		Topic, Title, Message string
		Priority              int
		Tags                  []string
	}
	for i := range got {
		check(t, json.Unmarshal([]byte(web.asked[i]), &got[i]))
	}
	if got[0].Topic != "topic" || got[0].Title != "[laptop] backup home: failed" || got[0].Priority != 4 ||
		!slices.Equal(got[0].Tags, []string{"rotating_light"}) || len(got[0].Message) > 4096 || len(got[0].Message) < 3000 {
		t.Errorf("it got %s", web.asked[0])
	}
	if got[1].Priority != 2 || got[1].Message != success().Body || web.users[0] != "me:token" {
		t.Errorf("it got %s from %s", web.asked[1], web.users[0])
	}
}

func TestHealthchecksIsPingedAfterEveryRun(t *testing.T) {
	web := newWebServer(t, 200)
	s := newSender(t, Settings{On: []string{"stale"}, Healthchecks: web.URL + "/key/slug?create=1"})
	large := failure()
	large.Body = strings.Repeat("x", 1<<20)
	for _, event := range []Event{Start, Success, Recovery, Failure, Failure, Stale} {
		large.Event = event
		send(t, s, large)
	}
	wantPaths(t, web, "POST /key/slug/start?create=1", "POST /key/slug?create=1", "POST /key/slug?create=1",
		"POST /key/slug/fail?create=1", "POST /key/slug/fail?create=1", "POST /key/slug/fail?create=1")
	for _, body := range web.asked {
		if len(body) > 10_000 || len(body) < 9_900 {
			t.Errorf("%d bytes", len(body))
		}
	}
}

func TestWhatIsPostedFollowsNoRedirection(t *testing.T) {
	other := newWebServer(t, 200)
	for _, status := range []int{301, 302, 303, 307, 308} {
		from := httptest.NewServer(http.RedirectHandler(other.URL+"/"+secret, status))
		s := newSender(t, Settings{Webhook: from.URL, Healthchecks: from.URL + "/" + secret})
		wantError(t, s.Send(t.Context(), failure()), "webhook "+from.URL, "healthchecks "+from.URL, "not followed")
		from.Close()
	}
	wantPaths(t, other)
}

func TestAWebServerThatIsDownIsAnError(t *testing.T) {
	web := newWebServer(t, 200)
	web.Close()
	address := strings.Replace(web.URL, "http://", "http://me:"+secret+"@", 1) + "/" + secret
	s := newSender(t, Settings{Webhook: address, Ntfy: address, Healthchecks: address})
	err := s.Send(t.Context(), failure())
	wantError(t, err, "webhook "+web.URL+": ", "ntfy "+web.URL+": ", "healthchecks "+web.URL+": ", "connection refused")
}

func TestAServerThatNeverAnswersIsNotWaitedFor(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections
	check(t, err)
	t.Cleanup(func() { silent.Close() })
	address := silent.Addr().String()
	s := newSender(t, Settings{Webhook: "http://" + address, MailTo: []string{"root@example.org"}, MailFrom: "root@example.org", SMTP: "smtp://" + address})
	s.patience = soon
	err = s.Send(t.Context(), failure())
	wantError(t, err, "webhook http://"+address+": no answer within 300ms", "mail to root@example.org by smtp://"+address+": no answer within 300ms")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.patience = patience
	wantError(t, s.Send(ctx, failure()), "webhook http://"+address+": context canceled", "smtp://"+address+": context canceled")
}
