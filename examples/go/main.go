// A service whose calls Redial makes: REDIAL_URL=http://127.0.0.1:8080 UPSTREAM=https://example.com/v1/extract PORT=8000 go run main.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

var (
	gateway  = os.Getenv("REDIAL_URL") // of `redial serve`
	upstream = os.Getenv("UPSTREAM")   // Clients of this service choose what is sent, not where it goes.
	client   = &http.Client{Timeout: time.Minute}
)

type result struct {
	ID, Status, Reason, Error string
	Body                      json.RawMessage
}

func main() {
	http.HandleFunc("/calls", func(w http.ResponseWriter, r *http.Request) { enqueue(w, r, "") })
	http.HandleFunc("/ask", func(w http.ResponseWriter, r *http.Request) { enqueue(w, r, "?wait=30") })
	http.HandleFunc("/calls/", func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequest("GET", gateway+"/v1/tasks/"+strings.TrimPrefix(r.URL.EscapedPath(), "/calls/"), nil)
		if err != nil {
			reply(w, 400, map[string]string{"detail": err.Error()})
			return
		}
		answer(w, request, 404)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func enqueue(w http.ResponseWriter, r *http.Request, wait string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil || !json.Valid(body) {
		reply(w, 400, map[string]string{"detail": "send JSON of at most 1 MiB"})
		return
	}
	task, _ := json.Marshal(map[string]any{"url": upstream, "body": json.RawMessage(body)})
	request, _ := http.NewRequest("POST", gateway+"/v1/tasks"+wait, bytes.NewReader(task))
	answer(w, request, 202)
}

// answer sends the upstream's answer, or why there is none; notYet is the status while the call goes on.
func answer(w http.ResponseWriter, request *http.Request, notYet int) {
	response, err := client.Do(request)
	if err != nil {
		reply(w, 503, map[string]string{"detail": err.Error()})
		return
	}
	defer response.Body.Close()
	var result result
	err = json.NewDecoder(response.Body).Decode(&result)
	switch {
	case response.StatusCode == 202 || response.StatusCode == 404:
		reply(w, notYet, map[string]string{"id": result.ID})
	case err != nil || response.StatusCode != 200:
		reply(w, 503, map[string]string{"detail": "the gateway answered " + response.Status})
	case result.Status != "ok":
		reply(w, 502, map[string]string{"detail": fmt.Sprintf("task %s: %s: %s", result.ID, result.Reason, result.Error)})
	default:
		reply(w, 200, result.Body)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
