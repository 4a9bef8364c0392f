// The Go client's runner: VECTORS SOCKET PREFIX TRANSPORT. ../README.md says what it does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"time"

	dirty "dirty.dev/client/go"
)

type step struct {
	Do        string
	ID        string
	App       string
	Action    string
	Args      []any
	Kwargs    map[string]any
	RawArgs   *string `json:"raw_args"`
	RawKwargs *string `json:"raw_kwargs"`
	Timeout   float64
	Stream    bool
	Read      int
}

type vector struct {
	Name  string
	Steps []step
}

type outcome map[string]any

// started is a call that goes on.
type started struct {
	cancel context.CancelFunc
	finish func() outcome
}

type runner struct {
	client *dirty.Client
	prefix string
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		log.Fatal("usage: runner VECTORS SOCKET PREFIX TRANSPORT")
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var vectors []vector
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	if err := decoder.Decode(&vectors); err != nil {
		log.Fatal(err)
	}
	client, err := dirty.NewClient(dirty.WithSocket(os.Args[2]))
	if err != nil {
		log.Fatal(err)
	}
	run := runner{client, os.Args[3]}
	out := bufio.NewWriter(os.Stdout)
	for _, vector := range vectors {
		line := map[string]any{"vector": vector.Name}
		if outcomes, broken := run.vector(vector.Steps); broken != "" {
			line["broken"] = broken
		} else {
			line["outcomes"] = outcomes
		}
		text, err := json.Marshal(line)
		if err != nil {
			log.Fatal(err)
		}
		out.Write(append(text, '\n'))
		out.Flush()
	}
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
}

func (r *runner) vector(steps []step) (outcomes []outcome, broken string) {
	defer func() {
		if failure := recover(); failure != nil {
			broken = fmt.Sprint(failure)
		}
	}()
	calls := map[string]started{}
	for _, step := range steps {
		switch step.Do {
		case "call":
			call := r.start(step)
			outcomes = append(outcomes, call.finish())
			call.cancel()
		case "start":
			calls[step.ID] = r.start(step)
		case "cancel":
			calls[step.ID].cancel()
		case "finish":
			outcomes = append(outcomes, calls[step.ID].finish())
			calls[step.ID].cancel()
		default:
			panic("no step " + step.Do)
		}
	}
	return outcomes, ""
}

func (r *runner) start(step step) started {
	ctx, cancel := context.WithCancel(context.Background())
	if step.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(step.Timeout*float64(time.Second)))
	}
	app := r.prefix + "-" + step.App
	args := make([]any, 0, len(step.Args)+1)
	for _, arg := range step.Args {
		args = append(args, valueOf(arg))
	}
	if step.Kwargs != nil {
		args = append(args, dirty.Kwargs(valueOf(step.Kwargs).(map[string]any)))
	}
	if step.Stream {
		return started{cancel, read(r.client.Stream(ctx, app, step.Action, args...), step.Read)}
	}
	ended := make(chan outcome, 1)
	go func() {
		var result *dirty.Result
		var err error
		if step.RawArgs != nil || step.RawKwargs != nil {
			result, err = r.client.ExecuteRaw(ctx, app, step.Action, text(step.RawArgs), text(step.RawKwargs), nil)
		} else {
			result, err = r.client.Execute(ctx, app, step.Action, args...)
		}
		if err != nil {
			ended <- outcome{"error": shownError(err)}
		} else {
			ended <- outcome{"result": shownResult(result)}
		}
	}()
	return started{cancel, func() outcome { return <-ended }}
}

// read reads so many chunks of a stream; what it returns reads the rest.
func read(values iter.Seq2[*dirty.Result, error], first int) func() outcome {
	next, stop := iter.Pull2(values)
	read := outcome{"chunks": []any{}}
	one := func() bool {
		chunk, err, more := next()
		if err != nil {
			read["error"] = shownError(err)
		} else if more {
			read["chunks"] = append(read["chunks"].([]any), shownResult(chunk))
		}
		return more && err == nil
	}
	for ; first > 0 && one(); first-- {
	}
	return func() outcome {
		for one() {
		}
		stop()
		return read
	}
}

func text(given *string) string {
	if given == nil {
		return ""
	}
	return *given
}

func shownError(err error) map[string]any {
	var failure *dirty.Error
	if !errors.As(err, &failure) {
		panic(fmt.Sprintf("not an Error: %v", err))
	}
	shown := map[string]any{"reason": failure.Reason, "message": failure.Message}
	for name, text := range map[string]string{"app": failure.App, "action": failure.Action, "call_id": failure.CallID,
		"exception_type": failure.ExceptionType, "traceback": failure.Traceback, "signal": failure.Signal} {
		if text != "" {
			shown[name] = text
		}
	}
	if failure.WorkerID != 0 {
		shown["worker_id"] = failure.WorkerID
	}
	if failure.RetryDelay != 0 {
		shown["retry_delay"] = failure.RetryDelay.Seconds()
	}
	if failure.Timeout != 0 {
		shown["timeout"] = failure.Timeout.Seconds()
	}
	if failure.ExitCode != nil {
		shown["exit_code"] = *failure.ExitCode
	}
	if len(failure.StderrTail) > 0 {
		shown["stderr_tail"] = failure.StderrTail
	}
	return shown
}
