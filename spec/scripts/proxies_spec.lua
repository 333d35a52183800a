-- The proxies' configurations of scripts/examples, in front of two machines that are network namespaces.
local helper = require "spec.helper"
local testing = require "parley.testing"
local uv = require "luv"

--- What is missing on this machine, if anything is.
local function missing(programs)
  for _, name in ipairs(programs) do
    local found = false
    for folder in (os.getenv "PATH" .. ":/usr/sbin:/sbin"):gmatch "[^:]+" do
      found = found or uv.fs_stat(folder .. "/" .. name) ~= nil
    end
    if not found then return name end
  end
end

describe("parley serve on two machines, behind", function()
  after_each(helper.remove_folders)

  for _, proxy in ipairs { "nginx", "haproxy" } do
    it(proxy .. ", holds each conversation on one, and on the other when that is gone", helper.task(function()
      local lacking = missing { proxy, "curl", "openssl", "ip", "nsenter", "unshare" }
      if lacking then return pending("needs " .. lacking) end
      local environment = { env = { "PATH=" .. os.getenv "PATH" .. ":/usr/sbin:/sbin" } }
      local unshare = uv.getuid() == 0 and "-n" or "-rn"
      if helper.run({ "/usr/bin/env", "unshare", unshare, "true" }, environment).status ~= 0 then
        return pending "needs a network namespace"
      end
      local kit <close> = testing.kit {}
      local program = helper.run({ "/usr/bin/env", "unshare", unshare, "sh", "spec/clients/two_machines.sh", proxy,
        helper.host, kit.executable, helper.temporary_folder() }, { env = helper.environment(kit.environment,
        { PATH = os.getenv "PATH" .. ":/usr/sbin:/sbin", HOME = kit.home }) })
      helper.eventually(function() return #kit:processes() == 0 end)
      assert.equal(0, program.status, program.output .. program.errors)
      assert.matches("went on: ", program.output, 1, true)
      assert.equal(14, #kit:taken())
    end, 300000))
  end
end)
