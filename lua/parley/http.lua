--- The public door to the HTTP server: see base/http.lua.
return require "parley.base.http"
