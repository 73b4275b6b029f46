package vezatest

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// heardWithin is how long a frame is waited for that has to come.
const heardWithin = 10 * time.Second

// Session is a user's session over WebSocket, in JSON. The test's end ends it.
type Session struct {
	t    testing.TB
	conn *websocket.Conn
	id   int
}

// Frame is what the server says, as docs/PROTOCOL.md writes it.
type Frame map[string]any

// At follows names into a frame; nil where there is nothing.
func (f Frame) At(names ...string) any {
	var at any = map[string]any(f)
	for _, name := range names {
		inside, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = inside[name]
	}
	return at
}

// Connect opens a session with a user's token, and waits for its welcome.
func (s *Server) Connect(t testing.TB, token string) *Session {
	t.Helper()
	session, answer := s.Hello(t, token)
	if answer.At("reply", "welcome") == nil {
		t.Fatalf("not welcome: %v", answer)
	}
	return session
}

// Hello opens a session, whatever the server says to the token.
func (s *Server) Hello(t testing.TB, token string) (*Session, Frame) {
	t.Helper()
	response, err := http.Get(s.URL() + "/veza.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var described struct{ WebsocketURL string }
	if err := json.NewDecoder(response.Body).Decode(&described); err != nil {
		t.Fatal(err)
	}
	config, err := websocket.NewConfig(described.WebsocketURL, s.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"veza.v1.json"}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	session := &Session{t: t, conn: conn}
	session.Say("hello", map[string]any{"token": token, "client": "vezatest/1"})
	answer, _ := session.Hear()
	return session, answer
}

// Ask sends a command and gives the server's reply to it: {"id": …, "published": …} or {"error": …}.
func (s *Session) Ask(command string, fields map[string]any) Frame {
	s.t.Helper()
	s.Say(command, fields)
	for {
		frame, open := s.Hear()
		if !open {
			s.t.Fatalf("the session was closed after %s", command)
		}
		if reply, ok := frame["reply"].(map[string]any); ok && reply["id"] == float64(s.id) {
			return reply
		}
	}
}

// Say sends a command.
func (s *Session) Say(command string, fields map[string]any) {
	s.t.Helper()
	s.id++
	if err := websocket.JSON.Send(s.conn, map[string]any{"id": s.id, command: fields}); err != nil {
		s.t.Fatal(err)
	}
}

// Hear is the next frame; false when the server has closed the session.
func (s *Session) Hear() (Frame, bool) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(heardWithin)); err != nil {
		s.t.Fatal(err)
	}
	var frame Frame
	if err := websocket.JSON.Receive(s.conn, &frame); err != nil {
		return nil, false
	}
	return frame, true
}

// Closed hears everything to the session's end, and gives the close code that was told.
func (s *Session) Closed() (code float64) {
	s.t.Helper()
	for {
		frame, open := s.Hear()
		if !open {
			return code
		}
		if told, ok := frame.At("push", "closing", "code").(float64); ok {
			code = told
		}
	}
}
