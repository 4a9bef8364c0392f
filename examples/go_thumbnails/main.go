// A web application that makes thumbnails without being slowed down by them: dirtyd's workers do the work.
//
//	go_thumbnails localhost:8000
//
// POST /thumbnail?size=256 with a picture answers with a small one.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	dirty "dirty.dev/client/go"
)

const (
	app            = "libthumbnail.so:Thumbnail"
	largestPicture = 32 << 20
	patience       = 10 * time.Second
)

// thumbnail is what the app returns.
type thumbnail struct {
	Image  []byte `json:"image"`
	Format string `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

type server struct{ client *dirty.Client }

func (s *server) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	size, err := strconv.Atoi(request.URL.Query().Get("size"))
	if err != nil {
		size = 128
	}
	picture, err := io.ReadAll(http.MaxBytesReader(response, request.Body, largestPicture))
	if err != nil {
		http.Error(response, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	// A browser that leaves cancels the call, too.
	ctx, cancel := context.WithTimeout(request.Context(), patience)
	defer cancel()
	small, err := dirty.ExecuteAs[thumbnail](ctx, s.client, app, "thumbnail", picture, dirty.Kwargs{"size": size})
	if err != nil {
		log.Print(err)
		http.Error(response, err.Error(), statusOf(err))
		return
	}
	response.Header().Set("Content-Type", "image/"+small.Format)
	response.Write(small.Image)
}

// statusOf is which failure becomes which HTTP status.
func statusOf(err error) int {
	switch {
	case errors.Is(err, dirty.AppError): // the app's way of saying that this is no picture
		return http.StatusUnprocessableEntity
	case errors.Is(err, dirty.Timeout), errors.Is(err, dirty.QueueTimeout):
		return http.StatusGatewayTimeout
	case errors.Is(err, dirty.QueueFull), errors.Is(err, dirty.NoWorkers), errors.Is(err, dirty.Connection),
		errors.Is(err, dirty.ShuttingDown):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go_thumbnails HOST:PORT")
	}
	client, err := dirty.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("POST /thumbnail", &server{client})
	log.Fatal(http.Serve(listener, mux))
}
