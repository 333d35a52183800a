-- Promise 7 of the README, on the stand-in over a real pty. Each spec fails when the promise is broken.
local files = require "parley.base.files"
local helper = require "spec.helper"
local promise = require "spec.promise"

promise.on_pty = true

local on = promise.on

describe("promise 7, no orphans:", function()
  promise.check_leaks()

  on({ "2.1.330" }, "the program does not outlive a host that is killed", { is_not_started = true }, function(_, kit)
    -- The end of the terminal ends most programs, whoever holds the other end; not this one.
    local deaf = helper.write_script(kit.folder .. "/deaf", "trap '' HUP TERM; while :; do sleep 0.1; done")
    local script = [[local p = require("parley.claude.process").new { executable = %q, cwd = %q }
      p:start() print(p:pid(), p.editor.visual:match "(/%%S+)/editor$") io.stdout:flush()
      require("parley.base.task").condition():wait(60000)]]
    local host <close> = helper.start { helper.host, "-e", script:format(deaf, kit.cwd) }
    host:expect "\n"
    local pid, folder = host.output:match "^(%d+)%s+(%S+)"
    assert.is_truthy(files.size(folder .. "/editor"))
    host:kill "sigkill"
    helper.eventually(function() return helper.has_ended(tonumber(pid)) end, 5000, "the end of the program")
    helper.eventually(function() return not files.size(folder) end, 10000, "the end of its private folder")
  end)
end)
