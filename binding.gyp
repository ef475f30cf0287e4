{
  "targets": [
    {
      "target_name": "tidemark",
      "sources": ["<!@(cat native/sources.txt)"],
      "include_dirs": ["native", "<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NAPI_CPP_EXCEPTIONS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags_cc!": ["-std=gnu++17", "-fno-exceptions", "-fno-rtti"],
      "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Wno-unused-parameter", "-O2", "-g"],
      "libraries": ["-l:liburing.a"]
    }
  ],
  "conditions": [
    ["'<!(pkg-config --exists fuse3 && echo yes || echo no)'=='yes'", {
      "targets": [
        {
          "target_name": "tidemark-fuse",
          "type": "executable",
          # The rest of it is compiled for the addon.
          "dependencies": ["tidemark"],
          "sources": ["<!@(ls native/fuse/*.cc)"],
          "include_dirs": ["native"],
          "defines": ["FUSE_USE_VERSION=314"],
          "cflags_cc!": ["-std=gnu++17", "-fno-exceptions", "-fno-rtti"],
          "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Wno-unused-parameter", "-O2", "-g", "<!@(pkg-config --cflags fuse3)"],
          "ldflags": ["-pthread"],
          "libraries": [
            "<!@(grep -E '^native/(common|device)/' native/sources.txt | grep -vE '/(sha256|block_hashes)[.]cc' | sed 's,^,$(obj).target/tidemark/,; s,[.]cc$,.o,')",
            "-l:liburing.a",
            "<!@(pkg-config --libs fuse3)"
          ]
        }
      ]
    }]
  ]
}
