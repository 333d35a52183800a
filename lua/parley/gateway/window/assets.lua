--- The page's files: they are carried by the program, and say nothing of its sessions.
local M = {}

local OURS, XTERM = "lua/parley/gateway/page/", "page/xterm/"
local FILES = {
  ["/"] = { OURS .. "index.html", "text/html; charset=utf-8" },
  ["/page/page.css"] = { OURS .. "page.css", "text/css; charset=utf-8" },
  ["/page/client.js"] = { OURS .. "client.js", "text/javascript; charset=utf-8" },
  ["/page/page.js"] = { OURS .. "page.js", "text/javascript; charset=utf-8" },
  ["/page/shims.js"] = { OURS .. "shims.js", "text/javascript; charset=utf-8" },
  ["/page/terminal.js"] = { OURS .. "terminal.js", "text/javascript; charset=utf-8" },
  ["/page/xterm.css"] = { XTERM .. "xterm.css", "text/css; charset=utf-8" },
  ["/page/xterm.js"] = { XTERM .. "xterm.js", "text/javascript; charset=utf-8" },
}

--- Nothing from elsewhere, and nothing that stands in the page itself: not even what a session's terminal would have it
--- do.
M.HEADERS = {
  ["content-security-policy"] = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    .. "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ["x-content-type-options"] = "nosniff", ["x-frame-options"] = "DENY", ["referrer-policy"] = "no-referrer",
  ["cross-origin-opener-policy"] = "same-origin", ["cross-origin-resource-policy"] = "same-origin",
  ["cache-control"] = "no-cache",
}

local function bundle() return package.loaded["parley.bundle"] end

--- Whether this program was built with a page.
---@return boolean
function M.has_page() return bundle() ~= nil and bundle().read(XTERM .. "xterm.js") ~= nil end

---@param path string
---@return boolean
function M.is_one(path) return FILES[path] ~= nil end

--- A file of the page.
---@param path string
---@return string? text  nil where there is no page
---@return string? kind
function M.read(path)
  local file = FILES[path]
  if not M.has_page() then return nil end
  return bundle().read(file[1]), file[2]
end

return M
