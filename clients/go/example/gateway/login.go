package main

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"sync"

	veza "github.com/veza-platform/veza/clients/go"
)

// User is somebody of the platform, who has a number there.
type User struct {
	ID    int64
	Name  string
	Plans []string
	// Staff may revoke others.
	Staff bool
}

// VezaID is the user's id in Veza.
func (u User) VezaID() string {
	return veza.UserID(u.ID)
}

// developmentUsers stand in for the platform's accounts: whoever knows a name is let in.
var developmentUsers = map[string]User{
	"alice": {ID: 1001, Name: "alice", Plans: []string{"gold"}, Staff: true},
	"bob":   {ID: 1002, Name: "bob"},
	"carol": {ID: 1003, Name: "carol"},
}

const cookieName = "session"

// sessions are who is logged in, by what their cookie says.
type sessions struct {
	mu    sync.Mutex
	users map[string]User
}

func (s *sessions) begin(user User) (cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = map[string]User{}
	}
	cookie = rand.Text()
	s.users[cookie] = user
	return cookie
}

func (s *sessions) find(request *http.Request) (User, bool) {
	cookie, err := request.Cookie(cookieName)
	if err != nil {
		return User{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user, known := s.users[cookie.Value]
	return user, known
}

// end logs a user out everywhere.
func (s *sessions) end(user User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cookie, one := range s.users {
		if one.ID == user.ID {
			delete(s.users, cookie)
		}
	}
}

// known is for who is logged in.
func (g *Gateway) known(handle func(http.ResponseWriter, *http.Request, User)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		user, known := g.sessions.find(request)
		if !known {
			answer(w, http.StatusUnauthorized, map[string]any{"error": "UNAUTHENTICATED", "message": "log in first"})
			return
		}
		handle(w, request, user)
	})
}

// knownOr sends everybody else there.
func (g *Gateway) knownOr(elsewhere string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if _, known := g.sessions.find(request); !known {
			http.Redirect(w, request, elsewhere, http.StatusSeeOther)
			return
		}
		handler.ServeHTTP(w, request)
	})
}

// login takes a development user by name and shows Veza's page.
func (g *Gateway) login(w http.ResponseWriter, request *http.Request) {
	user, found := developmentUsers[request.PostFormValue("user")]
	if !found {
		http.Error(w, "nobody is called so", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: g.sessions.begin(user), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: request.TLS != nil,
	})
	http.Redirect(w, request, "/?user="+user.VezaID(), http.StatusSeeOther)
}

var loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>The platform</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0; color-scheme: light dark }
  form { display: grid; gap: .75rem; min-width: 16rem }
  button { font: inherit; padding: .6rem }
</style>
<form method="post">
  <h1>Who are you?</h1>
  {{range .}}<button name="user" value="{{.Name}}">{{.Name}}, number {{.ID}}</button>
  {{end}}
</form>
</html>
`))

func showLogin(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = loginPage.Execute(w, developmentUsers)
}
