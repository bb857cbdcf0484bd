package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// post sends a body to an address. It follows no redirection: the body would go to somebody else, or be lost.
func post(ctx context.Context, address *url.URL, contentType string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", userAgent)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	response.Body.Close()
	status := fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))
	switch response.StatusCode / 100 {
	case 2:
		return nil
	case 3:
		return hint.New(errors.New(status+": the answer names another address, which is not followed"),
			"write the address into [notify] to which it has moved: what is posted is sent nowhere else")
	default:
		return errors.New(status)
	}
}

// withoutURL takes the URL, with its secrets, out of an error.
func withoutURL(err error) error {
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

const userAgent = "btrfs-backup"

// envelope is what a webhook gets. Chat programs show its text.
type envelope struct {
	Event   Event           `json:"event"`
	Host    string          `json:"host"`
	Time    time.Time       `json:"time"`
	Subject string          `json:"subject"`
	Text    string          `json:"text"`
	Jobs    []string        `json:"jobs,omitempty"`
	Status  int             `json:"exit_status"`
	Report  json.RawMessage `json:"report,omitempty"`
	Omitted bool            `json:"report_omitted,omitempty"` // it is too large
}

func (s Sender) sendWebhook(ctx context.Context, n Notice) error {
	e := envelope{Event: n.Event, Host: n.Host, Time: n.Time, Subject: n.Subject, Text: shorten(n.Body, maxText), Jobs: n.Jobs, Status: n.Status}
	if n.Report != nil {
		report, err := json.Marshal(n.Report)
		if err != nil {
			return err
		}
		const maxReport = 1 << 20
		if e.Omitted = len(report) > maxReport; !e.Omitted {
			e.Report = report
		}
	}
	address, err := url.Parse(s.Webhook)
	if err != nil {
		return withoutURL(err)
	}
	return postJSON(ctx, address, e)
}

func (s Sender) sendNtfy(ctx context.Context, n Notice) error {
	urgency := map[Event]struct {
		priority int
		tag      string
	}{
		Failure: {4, "rotating_light"}, Stale: {4, "hourglass"}, Recovery: {3, "white_check_mark"},
		Success: {2, "white_check_mark"}, Start: {1, "arrow_forward"},
	}[n.Event]
	address, err := url.Parse(s.Ntfy)
	if err != nil {
		return withoutURL(err)
	}
	const maxMessage = 3800                                      // what is longer than 4096 bytes becomes an attachment: https://docs.ntfy.sh/publish/#limitations
	return postJSON(ctx, address.JoinPath(".."), map[string]any{ // https://docs.ntfy.sh/publish/#publish-as-json
		"topic": path.Base(address.Path), "title": n.Subject, "message": shorten(n.Body, maxMessage),
		"priority": urgency.priority, "tags": []string{urgency.tag},
	})
}

// ping tells what watches over the runs that there was one (https://healthchecks.io/docs/http_api/).
func (s Sender) ping(ctx context.Context, n Notice) error {
	address, err := url.Parse(s.Healthchecks)
	if err != nil {
		return withoutURL(err)
	}
	switch {
	case n.Event == Start:
		address = address.JoinPath("start")
	case n.Event.isBad():
		address = address.JoinPath("fail")
	}
	const maxBody = 10_000
	return post(ctx, address, "text/plain; charset=utf-8", []byte(shorten(n.Body, maxBody)))
}

func postJSON(ctx context.Context, address *url.URL, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return post(ctx, address, "application/json", text)
}
