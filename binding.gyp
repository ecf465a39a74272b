{
  "targets": [
    {
      "target_name": "limbeck_cmake",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/limbeck.node"],
          "action": ["env", "LIMBECK_BUILD_DIR=build-gyp", "LIMBECK_TESTING=OFF", "LIMBECK_COPY_TO=<(PRODUCT_DIR)", "node", "scripts/build-native.cjs"]
        }
      ]
    }
  ]
}
