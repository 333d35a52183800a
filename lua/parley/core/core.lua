---@meta parley.core

---The primitives in C, each under its noun. They wait for nothing and own no handle of the loop.
---@class parley.Core
---@field digest parley.Digest
---@field http parley.core.http
---@field json parley.Json
---@field line parley.core.line
---@field lock parley.core.lock
---@field proc parley.core.proc
---@field pty parley.core.pty
---@field screen parley.core.screen
---@field sqlite parley.core.sqlite
---@field survivor parley.core.survivor
---@field text parley.Text
---@field turn parley.TurnModule
---@field uuid parley.Uuid
---@field tail parley.CoreTailModule
---@field error_metatable table Of the errors that they return, which `parley.errors` completes.
local core = {}

return core
