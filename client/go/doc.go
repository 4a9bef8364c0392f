// Package dirty calls apps through dirtyd, the sidecar that runs long and stateful work for web applications.
//
//	client, err := dirty.NewClient()
//	if err != nil { ... }
//	defer client.Close()
//
//	result, err := client.Execute(ctx, "myapp.images:ImageApp", "thumbnail", photo, dirty.Kwargs{"size": 256})
//	var thumbnail []byte
//	err = result.Decode(&thumbnail)
//
//	for chunk, err := range client.Stream(ctx, "myapp.ml:MLApp", "generate", "a prompt") { ... }
//
// # Arguments and results
//
// Arguments are encoded as encoding/json does, struct tags included, but for []byte: anywhere in them, it passes as
// bytes, without base64, and bytes in a result arrive in any []byte or in an any. Text must be UTF-8; NaN, infinities
// and a map whose only key is "$attachment" are refused. In an any, a number is an int64, a uint64 if it is too large
// for that, or a float64; integers keep every digit.
//
// # Time and cancellation
//
// A context's deadline covers connecting, waiting and running; it only shortens dirtyd's own limits. A context that is
// cancelled cancels the call, where it waits and where it runs. A call that may have started is never sent again.
package dirty
