--- The stand-in on a real pty: the message of its command line, as measured on the published program.
local helper = require "spec.helper"
local testing = require "parley.testing"
local play = require "spec.lua.testing.play"

local scene, send = play.scene, play.send

local leaks
before_each(function() leaks = testing.leaks() end)
after_each(function() leaks:check() end)

describe("the message of the stand-in's command line", function()
  it("is taken behind `--`, unless it is the name of a command or `code`", scene(nil, function(kit, open)
    open { "--add-dir", "/tmp", "--", "doctor " }
    helper.eventually(function() return kit:taken()[1] == "doctor " end)
    local terminal = open({ "--", "doctor" }, { is_ready = false })
    assert.same({ exit_code = 0 }, terminal:exit())
    send(open { "--", "code" }, "hello")
    helper.eventually(function() return kit:taken()[2] end)
    assert.same({ "doctor ", "hello" }, kit:taken())
  end))

  it("is taken for a flag, where the version does", scene({ profile = "2.1.110" }, function(_, open)
    local terminal = open({ "--", "--settings={} x" }, { is_ready = false })
    assert.same({ exit_code = 1 }, terminal:exit())
  end))
end)
